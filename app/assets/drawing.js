// Replaces a picture when its HTML changes (drawing/cell_graph.py).
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-drawing");
  if (node.__svg === data.html) return;
  node.__svg = data.html;
  node.innerHTML = data.html;
}
