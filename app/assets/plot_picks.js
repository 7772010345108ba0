// Reports clicks on the points of a live plot, and shows the intervals of the point under the pointer
// (components/plot_picks.py). The plot is found by its name, because it may be drawn later than this component.
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".rp-picks");
  host.rampart ??= { plot: null };
  const state = host.rampart;
  state.send = (run) => setTriggerValue("picked", run);
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const clear = (plot) => plot.querySelectorAll(".rp-bars").forEach((one) => one.remove());
  const bars = (plot, point) => {
    clear(plot);
    const [, x, xLow, xHigh, y, yLow, yHigh] = point.customdata;
    if (yHigh === undefined) return;
    // Bars that reach beyond the plot end at its edge.
    const px = (axis, value) => axis._offset + Math.min(axis._length, Math.max(0, axis.d2p(value)));
    // Points with equal values are drawn side by side, a little off their true place; their bars move with them.
    const dx = px(point.xaxis, point.x) - px(point.xaxis, x), dy = px(point.yaxis, point.y) - px(point.yaxis, y);
    const middle = [px(point.xaxis, x) + dx, px(point.yaxis, y) + dy];
    const group = svg("g", { class: "rp-bars", stroke: "currentColor", "stroke-width": 1.4, "pointer-events": "none" });
    if (xLow !== xHigh)
      group.append(svg("line", { x1: px(point.xaxis, xLow) + dx, x2: px(point.xaxis, xHigh) + dx, y1: middle[1], y2: middle[1] }));
    if (yLow !== yHigh)
      group.append(svg("line", { x1: middle[0], x2: middle[0], y1: px(point.yaxis, yLow) + dy, y2: px(point.yaxis, yHigh) + dy }));
    plot.querySelector(".main-svg").append(group);
  };
  const attach = (tries) => {
    const plot = [...document.querySelectorAll(".rp-plot")].find((one) => one.dataset.name === data.plot);
    if (!plot || !plot.on) {
      if (tries) setTimeout(() => attach(tries - 1), 150);
      return;
    }
    if (state.plot === plot) return;
    state.plot = plot;
    plot.on("plotly_click", (event) => {
      // A line has one id for all its points.
      const id = event.points.map((one) => one.customdata?.[0] ?? one.data.meta).find(Boolean);
      if (id) state.send(id);
    });
    plot.on("plotly_hover", (event) => event.points[0].customdata && bars(plot, event.points[0]));
    plot.on("plotly_unhover", () => clear(plot));
    plot.on("plotly_relayout", () => clear(plot));
  };
  attach(80);
}
