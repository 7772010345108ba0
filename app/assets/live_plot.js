// Draws a Plotly figure into one DOM node, which keeps its zoom while the data change (components/live_plot.py). Without a rerun,
// the server sends the points that have changed (live_values.py, live.js).
const REST = 20; // a chart rests this many times as long as its last drawing took, because the browser may share its cores with
const LONGEST_MS = 1800; // the search that it shows; at most this long, so that the chart stays close to the search

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-plot");
  const drawn = [data.revision, data.height, data.feed].join(" ");
  if (node.dataset.drawn === drawn) return; // newer points may have arrived since this figure was drawn
  Object.assign(node.dataset, { drawn, feed: data.feed });
  node.setAttribute("role", "figure");
  node.setAttribute("aria-label", data.label);
  const plot = (node.rampart ??= {});
  const values = (window.__rampartValues ??= new Map());
  const figure = JSON.parse(data.figure);
  node.style.height = `${figure.layout.height ?? data.height}px`;
  const shown = values.get(data.feed);
  // A rerun often brings the figure that is drawn already, because the server has sent its points before.
  if (shown?.node !== node || shown.revision !== data.revision || plot.height !== data.height) {
    Object.assign(plot, { figure, height: data.height, name: data.name, rests: 0 });
    draw(node);
  }
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

// Draws the newest figure of a node as soon as the library is loaded, the chart has rested and the browser has time for a frame.
function draw(node) {
  const plot = node.rampart;
  window.__rampartPlotly ??= window.Plotly ? Promise.resolve() : load();
  const figure = plot.figure;
  clearTimeout(plot.timer);
  const wait = plot.rests - performance.now();
  if (wait > 0) return (plot.timer = setTimeout(() => draw(node), wait));
  window.__rampartPlotly
    .then(() => {
      if (plot.figure !== figure) return; // a newer figure is on its way
      node.dataset.name = plot.name;
      window.__rampartConfig ??= config();
      const started = performance.now();
      // Plotly changes what it is given: hidden traces and ranges. Copies keep the figure as the server knows it.
      const height = figure.layout.height ?? plot.height; // an empty chart is lower than the one that follows it
      node.style.height = `${height}px`;
      const layout = { ...structuredClone(figure.layout), uirevision: plot.name, height };
      window.Plotly.react(node, figure.data.map((trace) => ({ ...trace })), layout, window.__rampartConfig);
      const took = performance.now() - started;
      plot.rests = started + took + Math.min(LONGEST_MS, REST * took);
    })
    .catch(() => {
      node.textContent = "The chart library could not be loaded from this server. Reload the page.";
    });
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
