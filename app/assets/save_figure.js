// Saves a chart of the page as SVG or PNG, in print colours (components/export_menu.py).
const INK = "#1b2430";
const LINE = "#d5dbe1";
// A saved figure does not know the page's own font, so its texts would be wider than measured.
const FONT = "Arial, Helvetica, sans-serif";

// Returns a copy of a layout that reads well on white, whatever the theme of the page.
function printed(layout) {
  const copy = JSON.parse(JSON.stringify(layout));
  Object.assign(copy, { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", font: { ...copy.font, color: INK, family: FONT } });
  for (const [name, axis] of Object.entries(copy)) {
    if (/^[xy]axis/.test(name)) Object.assign(axis, { color: INK, gridcolor: LINE });
  }
  return copy;
}

export default function ({ data, parentElement }) {
  const note = parentElement.querySelector(".rp-save-note");
  for (const button of parentElement.querySelectorAll("button")) {
    button.onclick = () => {
      const plot = [...document.querySelectorAll(".rp-plot")].find((one) => one.dataset.name === data.chart);
      note.textContent = plot && window.Plotly ? "" : "The chart has not been drawn yet.";
      if (!plot || !window.Plotly) return;
      const format = button.dataset.format;
      const figure = { data: plot.data, layout: printed(plot.layout) };
      window.Plotly.downloadImage(figure, {
        format, filename: data.name, width: plot.offsetWidth, height: plot.offsetHeight, scale: format === "png" ? 3 : 1,
      });
    };
  }
}
