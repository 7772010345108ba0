// Draws a Plotly figure into one DOM node, which keeps its zoom while the data change (components/live_plot.py). Without a rerun,
// the server sends the points that have changed (live_values.py, live.js). A reader can pause a chart that changes: it keeps what it
// shows until the reader goes on, and then catches up.
const REST = 20; // a chart rests this many times as long as its last drawing took, because the browser may share its cores with
const LONGEST_MS = 1300; // the search that it shows; at most this long, so that it is ready when the server sends news (hub.py)

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-plot");
  const drawn = [data.revision, data.height, data.feed].join(" ");
  if (node.dataset.drawn === drawn) return; // newer points may have arrived since this figure was drawn
  Object.assign(node.dataset, { drawn, feed: data.feed });
  node.setAttribute("role", "figure");
  node.setAttribute("aria-label", data.label);
  const plot = (node.rampart ??= paused(node, parentElement.querySelector(".rp-pause")));
  const values = (window.__rampartValues ??= new Map());
  const figure = JSON.parse(data.figure);
  if (topic(plot.feed) !== topic(data.feed) || !data.feed) plot.paused = false; // the chart shows something else, or the end
  Object.assign(plot, { feed: data.feed, label: data.label });
  if (!plot.paused) node.style.height = `${figure.layout.height ?? data.height}px`;
  const shown = values.get(data.feed);
  // A rerun often brings the figure that is drawn already, because the server has sent its points before.
  if (shown?.node !== node || shown.revision !== data.revision || plot.height !== data.height) {
    Object.assign(plot, { figure, height: data.height, name: data.name, rests: 0 });
    draw(node);
  }
  say(plot);
  if (!data.feed) return;
  values.set(data.feed, { node, revision: data.revision, apply: (message) => {
    plot.figure = message.text === undefined ? changed(plot.figure, message) : JSON.parse(message.text);
    draw(node);
  } });
  window.__rampartLive?.show();
}

// Returns a figure with the points and the layout that a message brings (live_values.figure_change).
function changed(figure, message) {
  const data = figure.data.map((trace, number) => {
    const lists = Object.entries(message.traces[number] ?? {});
    return { ...trace, ...Object.fromEntries(lists.map(([name, [keep, more]]) => [name, [...trace[name].slice(0, keep), ...more]])) };
  });
  return { ...figure, data, layout: message.layout ?? figure.layout };
}

// Returns the topic in the name of a feed (live_values.py), which names the run.
const topic = (feed) => feed?.split(" ")[1];

// Returns the state of a chart that can be paused with the button of a bar.
function paused(node, bar) {
  const plot = { paused: false, bar, button: bar.querySelector("button"), words: bar.querySelector("span") };
  node.addEventListener("pointerenter", () => {
    if (plot.moved) redraw(node, plot.drawn);
  });
  plot.button.addEventListener("click", () => {
    plot.paused = !plot.paused;
    draw(node);
    say(plot);
  });
  return plot;
}

// Writes on the bar of a chart whether it is paused, and how many points wait.
function say(plot) {
  plot.bar.hidden = !plot.feed || !plot.drawn?.data.length;
  plot.button.textContent = plot.paused ? "Resume" : "Pause";
  plot.button.setAttribute("aria-label", `${plot.button.textContent}: ${plot.label}`);
  const count = plot.paused ? waiting(plot.drawn.data, plot.figure.data) : 0;
  const some = count ? `${count.toLocaleString("en")} ${count === 1 ? "point waits" : "points wait"}` : "no new points";
  plot.words.textContent = plot.paused ? `Paused, ${some}` : "";
}

// Returns the number of points of the newest traces that the drawn ones do not have.
function waiting(drawn, newest) {
  const points = ({ name, x = [], y = [], z }) =>
    z
      ? z.flatMap((row, r) => row.map((value, c) => `${r} ${c} ${value}`))
      : [...y].flatMap((value, i) => (value === null ? [] : [`${name} ${x[i]} ${value}`]));
  const known = new Set(drawn.flatMap(points));
  return newest.flatMap(points).filter((point) => !known.has(point)).length;
}

// Draws the newest figure of a node as soon as the library is loaded, the chart has rested and the browser has time for a frame.
function draw(node) {
  const plot = node.rampart;
  window.__rampartPlotly ??= window.Plotly ? Promise.resolve() : load();
  const figure = plot.figure;
  clearTimeout(plot.timer);
  if (plot.paused) return say(plot);
  const wait = plot.rests - performance.now();
  if (wait > 0) return (plot.timer = setTimeout(() => draw(node), wait));
  window.__rampartPlotly
    .then(() => {
      if (plot.figure !== figure || plot.paused) return; // a newer figure is on its way, or must wait
      node.dataset.name = plot.name;
      window.__rampartConfig ??= config();
      const started = performance.now();
      // What is below the pointer is found by what Plotly has computed itself, so Plotly draws a chart that the pointer is over.
      if (plot.drawn !== undefined && !node.matches(":hover") && moveLines(node, plot.drawn, figure)) {
        plot.moved = true;
        for (const event of ["plotly_react", "plotly_afterplot"]) node.emit(event);
      } else redraw(node, figure);
      plot.drawn = figure;
      say(plot);
      const took = performance.now() - started;
      plot.rests = started + took + Math.min(LONGEST_MS, REST * took);
    })
    .catch(() => {
      node.textContent = "The chart library could not be loaded from this server. Reload the page.";
    });
}

// Lets Plotly draw a figure in a node.
function redraw(node, figure) {
  const plot = node.rampart;
  // Plotly changes what it is given: hidden traces and ranges. Copies keep the figure as the server knows it.
  const height = figure.layout.height ?? plot.height; // an empty chart is lower than the one that follows it
  node.style.height = `${height}px`;
  const layout = { ...structuredClone(figure.layout), uirevision: plot.name, height };
  // Plotly computes again only what is in new lists. After a move of lines, it has lists that it has not drawn.
  const fresh = (trace) => ({ ...trace, ...(plot.moved && trace.x && trace.y ? { x: [...trace.x], y: [...trace.y] } : {}) });
  const data = figure.data.map(fresh);
  plot.moved = false;
  window.Plotly.react(node, data, layout, window.__rampartConfig);
}

function load() {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "app/static/plotly.min.js";
    script.onload = done;
    script.onerror = () => {
      window.__rampartPlotly = undefined;
      failed(new Error("plotly.min.js"));
    };
    document.head.appendChild(script);
  });
}

// Returns the options of all charts. They must be one object for all redraws: with another one, Plotly would draw the chart anew
// and lose the zoom.
const config = () => ({
  displaylogo: false,
  responsive: true,
  scrollZoom: false,
  doubleClick: "reset",
  // A figure for a paper as SVG, for slides as PNG with twice the pixels.
  modeBarButtons: [[...["svg", "png"].map((format) => ({
    name: `save-${format}`,
    title: `Save as ${format.toUpperCase()}`,
    icon: window.Plotly.Icons[format === "svg" ? "disk" : "camera"],
    click: (plot) => window.Plotly.downloadImage(plot, { format, filename: plot.dataset.name, scale: format === "png" ? 2 : 1 }),
  })), "zoom2d", "pan2d", "resetScale2d"]],
});
