// Draws a Plotly figure into one DOM node, which keeps its zoom while the data change (components/live_plot.py).
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-plot");
  if (node.dataset.revision === data.revision) return;
  node.dataset.revision = data.revision;
  node.style.height = `${data.height}px`;
  node.setAttribute("role", "figure");
  node.setAttribute("aria-label", data.label);
  window.__rampartPlotly ??= window.Plotly
    ? Promise.resolve()
    : new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = "app/static/plotly.min.js";
        script.onload = done;
        script.onerror = () => {
          window.__rampartPlotly = undefined;
          failed(new Error("plotly.min.js"));
        };
        document.head.appendChild(script);
      });
  const figure = JSON.parse(data.figure);
  Object.assign(figure.layout, { uirevision: data.name, height: data.height });
  window.__rampartPlotly
    .then(() => {
      if (node.dataset.revision !== data.revision) return; // a newer figure is on its way
      node.dataset.name = data.name;
      // One object for all redraws: with another one, Plotly would draw the chart anew and lose the zoom.
      window.__rampartConfig ??= {
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
      };
      window.Plotly.react(node, figure.data, figure.layout, window.__rampartConfig);
    })
    .catch(() => {
      node.textContent = "The chart library could not be loaded from this server. Reload the page.";
    });
}
