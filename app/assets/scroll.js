// Scrolls the page to this place once for each token (components/scroll.py). The page grows while Streamlit draws the elements
// below, so the scroll is repeated shortly, unless the reader has scrolled meanwhile.
export default function ({ data, parentElement }) {
  if (window.__rampartScrolled === data.token) return;
  window.__rampartScrolled = data.token;
  const reader = new AbortController();
  for (const event of ["wheel", "touchmove", "keydown"]) addEventListener(event, () => reader.abort(), { signal: reader.signal });
  for (const delay of [50, 400, 1200])
    setTimeout(() => reader.signal.aborted || parentElement.scrollIntoView({ block: "start" }), delay);
  setTimeout(() => reader.abort(), 1300);
}
