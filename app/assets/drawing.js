// Replaces a picture when its HTML changes, and reports clicks on the edges of cells and on the cells themselves
// (drawing/cell_graph.py). Cells can be zoomed, moved and saved (cells.js).
export default function ({ data, parentElement, setTriggerValue }) {
  const node = parentElement.querySelector(".rp-drawing");
  node.__send = setTriggerValue;
  if (node.__svg === data.html) return;
  node.__svg = data.html;
  redraw(node, data.html);
  node.onclick = (event) => {
    const figure = event.target.closest(".rp-pickable");
    if (!figure || figure.dragged || event.target.closest("button, figcaption")) return;
    const edge = event.target.closest("[data-edge]")?.dataset.edge ?? "";
    node.__send("picked", { cell: figure.dataset.cell, edge });
  };
}
