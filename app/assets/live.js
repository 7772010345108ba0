// Reruns a live panel once the server says that something it shows has changed, and takes charts and texts that the server sends
// without a rerun (components/live.py, live_channel.py). Charts and texts enter themselves in window.__rampartValues:
// {name: {node, revision, apply(message)}}; node.dataset.feed is the name.
const CHECK_MS = 3000; // longest wait for a rerun, and time between reruns while there is no connection
const RETRY_MS = 2000;
const CALM_MS = 2000; // no rerun so soon after a click: it may lead to another page, and a rerun meanwhile would leave that page empty
const BUSY_MS = 100; // time between two looks whether Streamlit has finished a rerun
const ABOVE_AND_BELOW = "150px"; // a panel this close to the screen counts as on it

export default function ({ data, parentElement, setTriggerValue }) {
  const live = (window.__rampartLive ??= start());
  const panel = live.panels.get(data.key);
  const block = parentElement.closest(`[class*="st-key-rampart-panel-"]`) ?? parentElement;
  if (panel && panel.block !== block) live.seen.unobserve(panel.block);
  if (panel?.block !== block) live.seen.observe(block);
  const now = Date.now();
  // The time from the request of a rerun to its drawing tells how costly the panel is.
  const cost = live.waiting?.key === data.key ? now - live.waiting.since : (panel?.cost ?? 0);
  live.panels.set(data.key, { onScreen: panel?.onScreen ?? true, ...data, block, cost, drawn: now,
                              fire: () => setTriggerValue("changed", String(Date.now())) });
  if (live.waiting?.key === data.key) live.waiting = null;
  live.connect(data.url);
  live.show();
  live.soon(0);
}

const values = () => (window.__rampartValues ??= new Map());
const scriptState = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState;
const isLive = (name, value) => value.node.isConnected && value.node.dataset.feed === name; // not a node that shows another run now

// Creates the state that all panels of the page share.
function start() {
  const live = { panels: new Map(), now: {}, waiting: null, socket: null, url: "", shown: "", timer: 0, due: Infinity, calm: 0 };

  live.seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      for (const panel of live.panels.values()) if (panel.block === entry.target) panel.onScreen = entry.isIntersecting;
      for (const value of values().values()) if (value.node === entry.target) value.onScreen = entry.isIntersecting;
    }
    live.show();
    live.soon(0);
  }, { rootMargin: ABOVE_AND_BELOW });

  // Panels rerun one at a time, because Streamlit keeps only the latest of several reruns that wait. The panel drawn longest ago
  // goes first. The status and counters of a run are cheap to draw, so they never wait for more than one chart. A panel rests
  // between reruns: charts longer than text, and costly panels longer than cheap ones, because the server may share its cores
  // with the search that the chart shows.
  const head = (panel) => panel.topic.startsWith("head:") || panel.topic === "loading";
  const rest = (panel) => Math.min(2200, Math.max(head(panel) ? 1400 : 1800, 4 * panel.cost));
  const rank = (panel) => panel.drawn - (head(panel) ? 60000 : 0);
  const wait = (panel) => {
    const seen = live.socket?.readyState === WebSocket.OPEN ? live.now[panel.topic] : undefined;
    if (seen === undefined) return live.socket?.readyState === WebSocket.OPEN ? Infinity : panel.drawn + CHECK_MS - Date.now();
    return seen !== panel.signature && panel.onScreen ? panel.drawn + rest(panel) - Date.now() : Infinity;
  };
  const next = () => {
    live.due = Infinity;
    if (document.hidden) return;
    if (Date.now() < live.calm) return live.soon(live.calm - Date.now());
    if (live.waiting && Date.now() - live.waiting.since < CHECK_MS) return live.soon(CHECK_MS);
    // Streamlit removes what a panel no longer shows when its rerun has finished. A rerun that begins before would leave it there.
    if (["running", "rerunRequested"].includes(scriptState())) return live.soon(BUSY_MS);
    live.waiting = null;
    let first = null;
    let soonest = Infinity;
    for (const [key, panel] of live.panels) {
      if (!panel.block.isConnected) {
        live.panels.delete(key);
        live.seen.unobserve(panel.block);
        live.show();
        continue;
      }
      const left = wait(panel);
      soonest = Math.min(soonest, left);
      if (left <= 0 && (!first || rank(panel) < rank(first))) first = panel;
    }
    if (!first) return soonest < Infinity && live.soon(soonest);
    live.waiting = { key: first.key, since: Date.now() };
    first.drawn = Date.now();
    first.fire();
    live.soon(CHECK_MS);
  };
  live.soon = (ms) => {
    if (Date.now() + ms >= live.due) return;
    clearTimeout(live.timer);
    live.due = Date.now() + ms;
    live.timer = setTimeout(next, ms);
  };

  // Tells the server which topics the page shows, and which values are on its screen. A hidden page shows nothing. The server
  // keeps track of the revisions that it sends, so it is told again only if the page shows other values, or if `again` is set.
  live.show = (again) => {
    const topics = document.hidden ? [] : [...new Set([...live.panels.values()].map((panel) => panel.topic))].sort();
    const shown = {};
    for (const [name, value] of values()) {
      if (!isLive(name, value)) {
        if (!value.node.isConnected) live.seen.unobserve(value.node);
        values().delete(name);
        continue;
      }
      if (!value.observed) {
        value.observed = again = true;
        live.seen.unobserve(value.node); // the observer tells of a node that it begins to observe
        live.seen.observe(value.node);
      }
      if (value.onScreen !== false && !document.hidden) shown[name] = value.revision;
    }
    const text = JSON.stringify([topics, Object.keys(shown).sort()]);
    if (live.socket?.readyState !== WebSocket.OPEN || (text === live.shown && !again)) return;
    live.shown = text;
    live.socket.send(JSON.stringify({ topics, values: shown }));
  };

  // Hands a value on to its chart or text. If the server does not know the value, or the page shows another revision than the
  // server supposes, the panel around it reruns or the server is asked again.
  const take = (name, message) => {
    const value = values().get(name);
    if (!value || !isLive(name, value)) return;
    const panel = [...live.panels.values()].find((one) => one.block.contains(value.node));
    if (message === null) {
      setTimeout(() => live.show(true), CHECK_MS); // the rerun makes the value known to the server
      return panel?.fire();
    }
    if (message.from !== undefined && message.from !== value.revision) return live.show(true);
    value.apply(message);
    value.revision = message.revision;
  };
  live.connect = (url) => {
    if (live.socket && live.url === url && live.socket.readyState <= WebSocket.OPEN) return;
    live.url = url;
    live.socket?.close();
    const address = new URL(url, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = (live.socket = new WebSocket(address));
    socket.onopen = () => {
      live.shown = "";
      live.now = {};
      live.show();
    };
    socket.onmessage = (message) => {
      const news = JSON.parse(message.data);
      Object.assign(live.now, news.signatures);
      for (const [name, value] of Object.entries(news.values)) take(name, value);
      live.soon(0);
    };
    socket.onclose = () => {
      if (socket !== live.socket) return;
      live.soon(CHECK_MS);
      setTimeout(() => socket === live.socket && live.connect(live.url), RETRY_MS);
    };
  };
  document.addEventListener("click", () => (live.calm = Date.now() + CALM_MS), true);
  document.addEventListener("visibilitychange", () => {
    live.show();
    live.soon(0);
  });
  return live;
}
