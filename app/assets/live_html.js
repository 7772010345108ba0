// Shows a piece of HTML, which the server replaces without a rerun when it changes (components/live_html.py, live.js).
// Cells in it can be zoomed, moved and saved (cells.js).
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-live");
  const drawn = `${data.revision} ${data.feed}`;
  if (node.dataset.drawn === drawn) return; // a newer text may have arrived since this one was drawn
  Object.assign(node.dataset, { drawn, feed: data.feed });
  redraw(node, data.html);
  const values = (window.__rampartValues ??= new Map());
  values.set(data.feed, { node, revision: data.revision, apply: (message) => {
    redraw(node, message.text);
  } });
  window.__rampartLive?.show();
}
