// Drawings of cells, wherever they are on a page (drawing/cell_graph.py): a reader can zoom, move and save them. When another cell
// takes the place of one, edges and nodes glide from their old places to the new ones. The files of the components that show
// cells follow this one.
const ZOOM_STEP = 1.4, MOST_ZOOM = 6;
const GLIDE = { duration: 300, easing: "ease-in-out" };
const SAMPLES = 24; // points on an edge while it glides
const LOOK = ["fill", "stroke", "stroke-width", "stroke-opacity", "stroke-linejoin", "stroke-dasharray", "paint-order", "font-size",
  "font-weight"];

// Replaces what a node shows. Cells of the same name keep the reader's zoom.
function redraw(node, html) {
  const drawn = new Map([...node.querySelectorAll(".rp-cell")].map((figure) => [titleOf(figure), figure]));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const before = new Map([...drawn].map(([title, figure]) => [title, { view: figure.view, parts: still ? [] : partsOf(figure) }]));
  node.innerHTML = html;
  for (const figure of node.querySelectorAll(".rp-cell")) {
    const earlier = before.get(titleOf(figure));
    zoomable(figure, earlier?.view);
    if (earlier?.parts.length) glide(figure, earlier.parts);
  }
}

const titleOf = (figure) => figure.querySelector("figcaption b")?.textContent ?? "the drawing";

// Returns the edges, labels and nodes of a drawing with their places. Edges and their labels are named "target source operation".
function partsOf(figure) {
  const marked = [...figure.querySelectorAll(":scope > svg :is([data-line], [data-state])")];
  return marked.map((node) => {
    const { line, state } = node.dataset, path = node.tagName === "path";
    const [x, y] = ["x", "y"].map((axis) => Number(node.getAttribute(`c${axis}`) ?? node.getAttribute(axis)));
    return { node, kind: `${node.tagName} ${node.getAttribute("class")}`, name: line ?? state, x, y, path,
      edge: line && [line.split(" ")[0], line.split(" ")[2]].join(" "), course: path ? sampled(node) : "" };
  });
}

// Returns a line through points of a path, because only paths with equally many points glide into each other.
function sampled(path) {
  const length = path.getTotalLength();
  const points = Array.from({ length: SAMPLES + 1 }, (_, i) => path.getPointAtLength((length * i) / SAMPLES));
  return `path("M${points.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}")`;
}

// Moves the parts of a new drawing from the places that they had. An edge whose source changed moves as well. New parts fade in,
// and old ones fade out.
function glide(figure, before) {
  const left = new Set(before), after = partsOf(figure);
  const origin = new Map();
  for (const same of ["name", "edge"])
    for (const part of after) {
      if (origin.has(part)) continue;
      const from = [...left].find((one) => one.kind === part.kind && part[same] && one[same] === part[same]);
      if (!from) continue;
      origin.set(part, from);
      left.delete(from);
    }
  for (const part of after) {
    const from = origin.get(part);
    if (!from) part.node.animate({ opacity: [0, 1] }, GLIDE);
    else if (part.path && from.course !== part.course) part.node.animate({ d: [from.course, part.course] }, GLIDE);
    else if (!part.path && (from.x !== part.x || from.y !== part.y))
      part.node.animate({ transform: [`translate(${from.x - part.x}px, ${from.y - part.y}px)`, "none"] }, GLIDE);
  }
  const svg = figure.querySelector(":scope > svg");
  for (const { node } of left) {
    svg.prepend(node);
    node.animate({ opacity: [1, 0] }, GLIDE).onfinish = () => node.remove();
  }
}

// Adds the buttons and the gestures with which a reader zooms and moves one drawing. `kept` is the view of the drawing before.
function zoomable(figure, kept) {
  const svg = figure.querySelector(":scope > svg");
  if (!svg || figure.matches(".rp-placement, .rp-sketches")) return;
  figure.whole = svg.getAttribute("viewBox");
  const [, , width, height] = figure.whole.split(" ").map(Number);
  const view = (figure.view = { x: 0, y: 0, zoom: 1, ...kept });
  const show = () => {
    view.x = Math.min(Math.max(view.x, 0), width - width / view.zoom);
    view.y = Math.min(Math.max(view.y, 0), height - height / view.zoom);
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${width / view.zoom} ${height / view.zoom}`);
    svg.classList.toggle("rp-zoomed", view.zoom > 1);
  };
  // Zooms by a factor; the point at the share (sx, sy) of the drawing stays where it is.
  const zoom = (factor, sx = 0.5, sy = 0.5) => {
    const next = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
    view.x += sx * (width / view.zoom - width / next);
    view.y += sy * (height / view.zoom - height / next);
    view.zoom = next;
    show();
  };
  figure.insertBefore(zoomBar(figure, zoom), svg);
  if (view.zoom > 1) show();
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP, (event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height);
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

// Returns the bar with the buttons of a drawing.
function zoomBar(figure, zoom) {
  const bar = document.createElement("div");
  bar.className = "rp-zoom";
  const move = " (Ctrl and wheel; drag to move)";
  for (const [sign, words, hint, act] of [["+", "Zoom in", move, () => zoom(ZOOM_STEP)],
    ["−", "Zoom out", move, () => zoom(1 / ZOOM_STEP)], ["⤢", "Show all of it", move, () => zoom(0)],
    ["SVG", "Save as SVG", "", () => saveCell(figure)]]) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: sign, title: words + hint, onclick: act });
    button.setAttribute("aria-label", `${words}: ${titleOf(figure)}`);
    bar.append(button);
  }
  return bar;
}

// Saves a whole drawing as an SVG file in the colours of the light theme, which needs no style sheet.
function saveCell(figure) {
  const svg = figure.querySelector(":scope > svg").cloneNode(true);
  svg.style.colorScheme = "light";
  svg.querySelectorAll(".rp-target").forEach((one) => one.remove());
  figure.append(svg); // only what is on the page has a look
  svg.getAnimations({ subtree: true }).forEach((one) => one.finish());
  const looks = [...svg.querySelectorAll("*")].map((one) => [one, getComputedStyle(one)].map((it, place) =>
    place ? LOOK.map((name) => `${name}:${it.getPropertyValue(name)}`).join(";") : it));
  looks.forEach(([one, look]) => one.setAttribute("style", look));
  svg.remove();
  svg.removeAttribute("style");
  const [, , width, height] = figure.whole.split(" ");
  for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", viewBox: figure.whole, width, height,
    "font-family": "Helvetica, Arial, sans-serif" })) svg.setAttribute(name, value);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([svg.outerHTML], { type: "image/svg+xml" }));
  link.download = `${titleOf(figure).toLowerCase().replaceAll(/\W+/g, "-")}.svg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
