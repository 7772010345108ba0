// Scrolls the page to this place once for each token (components/scroll.py).
export default function ({ data, parentElement }) {
  if (window.__rampartScrolled === data.token) return;
  window.__rampartScrolled = data.token;
  requestAnimationFrame(() => parentElement.scrollIntoView({ block: "start", behavior: "smooth" }));
}
