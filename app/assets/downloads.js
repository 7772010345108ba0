// Downloads the files behind the links of a page, and saves its charts as SVG or PNG (components/downloads.py).
const INK = "#1b2430";
const LINE = "#d5dbe1";
// A saved figure does not know the page's own font, so its texts would be wider than measured.
const FONT = "Arial, Helvetica, sans-serif";
const UNREACHABLE = "The dashboard does not answer. Start it again, then reload this page.";
const UNEXPECTED = "The file could not be made. The terminal in which the dashboard runs shows why.";

// Returns a copy of a layout that reads well on white, whatever the theme of the page.
function printed(layout) {
  const copy = JSON.parse(JSON.stringify(layout));
  Object.assign(copy, { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", font: { ...copy.font, color: INK, family: FONT } });
  for (const [name, axis] of Object.entries(copy)) {
    if (/^[xy]axis/.test(name)) Object.assign(axis, { color: INK, gridcolor: LINE });
  }
  return copy;
}

// Saves the chart that a button names. Returns what went wrong, or "".
async function saveFigure({ chart, format, name }) {
  const plot = [...document.querySelectorAll(".rp-plot")].find((one) => one.dataset.name === chart);
  if (!plot?.data || !window.Plotly) return "The chart has not been drawn yet. Scroll to it and try again.";
  await window.Plotly.downloadImage({ data: plot.data, layout: printed(plot.layout) }, {
    format, filename: name, width: plot.offsetWidth, height: plot.offsetHeight, scale: format === "png" ? 3 : 1,
  });
  return "";
}

// Downloads the file behind a link. Returns what went wrong, or "".
async function saveFile(link) {
  let answer;
  try {
    answer = await fetch(link.href);
  } catch {
    return UNREACHABLE;
  }
  if (!answer.ok) return answer.status === 422 || answer.status === 410 ? answer.text() : UNEXPECTED;
  const place = document.createElement("a");
  place.href = URL.createObjectURL(await answer.blob());
  place.download = link.getAttribute("download");
  place.click();
  setTimeout(() => URL.revokeObjectURL(place.href), 60000);
  return "";
}

async function onClick(event) {
  const link = event.target.closest?.("a.rp-file"), button = event.target.closest?.(".rp-files button[data-format]");
  const one = link ?? button;
  if (!one) return;
  event.preventDefault();
  const note = one.closest(".rp-files").querySelector(".rp-filenote");
  if (one.getAttribute("aria-busy") === "true") return;
  one.setAttribute("aria-busy", "true");
  const late = setTimeout(() => { note.textContent = "Making the file …"; }, 400);
  const problem = await (link ? saveFile(link) : saveFigure(button.dataset));
  clearTimeout(late);
  one.removeAttribute("aria-busy");
  note.textContent = problem;
  note.classList.toggle("rp-bad", problem !== "");
}

export default function () {
  if (window.__rampartDownloads) return;
  window.__rampartDownloads = true;
  document.addEventListener("click", onClick);
}
