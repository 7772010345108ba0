// Replaces a picture when its HTML changes, lets readers zoom and move drawings of cells, and reports clicks on their edges and
// on the cells themselves (drawing/cell_graph.py).
const STEP = 1.4, MOST = 6;

// Adds the buttons and the gestures with which a reader zooms and moves one drawing.
function zoomable(figure) {
  const svg = figure.querySelector(":scope > svg");
  if (!svg || figure.matches(".rp-placement, .rp-sketches")) return;
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const view = { x: 0, y: 0, zoom: 1 };
  const show = () => {
    view.x = Math.min(Math.max(view.x, 0), width - width / view.zoom);
    view.y = Math.min(Math.max(view.y, 0), height - height / view.zoom);
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${width / view.zoom} ${height / view.zoom}`);
    svg.classList.toggle("rp-zoomed", view.zoom > 1);
  };
  // Zooms by a factor; the point at the share (sx, sy) of the drawing stays where it is.
  const zoom = (factor, sx = 0.5, sy = 0.5) => {
    const next = Math.min(Math.max(view.zoom * factor, 1), MOST);
    view.x += sx * (width / view.zoom - width / next);
    view.y += sy * (height / view.zoom - height / next);
    view.zoom = next;
    show();
  };
  const bar = document.createElement("div");
  bar.className = "rp-zoom";
  const title = figure.querySelector("figcaption b")?.textContent ?? "the drawing";
  for (const [sign, words, act] of [["+", "Zoom in", () => zoom(STEP)], ["−", "Zoom out", () => zoom(1 / STEP)],
    ["⤢", "Show all of it", () => zoom(0)]]) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: sign, title: `${words} (Ctrl and wheel; drag to move)`, onclick: act });
    button.setAttribute("aria-label", `${words}: ${title}`);
    bar.append(button);
  }
  figure.insertBefore(bar, svg);
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY < 0 ? STEP : 1 / STEP, (event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height);
  }, { passive: false });
  svg.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1) || view.zoom === 1) return;
    const scale = width / view.zoom / svg.getBoundingClientRect().width;
    view.x -= event.movementX * scale;
    view.y -= event.movementY * scale;
    figure.dragged = true;
    show();
  });
  svg.addEventListener("pointerdown", () => (figure.dragged = false));
}

export default function ({ data, parentElement, setTriggerValue }) {
  const node = parentElement.querySelector(".rp-drawing");
  node.__send = setTriggerValue;
  if (node.__svg === data.html) return;
  node.__svg = data.html;
  node.innerHTML = data.html;
  node.querySelectorAll(".rp-cell").forEach(zoomable);
  node.onclick = (event) => {
    const figure = event.target.closest(".rp-pickable");
    if (!figure || figure.dragged || event.target.closest("button, figcaption")) return;
    const edge = event.target.closest("[data-edge]")?.dataset.edge ?? "";
    node.__send("picked", { cell: figure.dataset.cell, edge });
  };
}
