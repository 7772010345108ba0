// Tells the reader that the dashboard has stopped, until it answers again (components/connection.py).
const AGAIN_MS = 2000;

function command() {
  const port = window.location.port;
  return port && port !== "8501" ? `rampart ui --port ${port}` : "rampart ui";
}

async function answers() {
  try {
    return (await fetch("_stcore/health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

function announce(state) {
  if (state.timer) return;
  const code = document.createElement("code");
  code.textContent = command();
  state.banner.replaceChildren("The dashboard is not running; runs go on. Start it again with ", code, ".");
  state.timer = setInterval(async () => {
    if (!(await answers())) return;
    clearInterval(state.timer);
    state.timer = null;
    state.banner.replaceChildren();
  }, AGAIN_MS);
}

// Streamlit opens a dialog as a child of the body. Once this one is closed, it stays closed until the connection is back.
function watch() {
  const state = { banner: null, timer: null };
  new MutationObserver(() => {
    const dialog = [...document.querySelectorAll('[data-testid="stDialog"]')].find((one) => one.textContent.includes("Connection error"));
    if (!dialog) return;
    dialog.querySelector('button[aria-label="Close"]')?.click();
    announce(state);
  }).observe(document.body, { childList: true });
  return state;
}

export default function ({ parentElement }) {
  window.__rampartConnection ??= watch();
  window.__rampartConnection.banner = parentElement.querySelector(".rp-offline");
}
