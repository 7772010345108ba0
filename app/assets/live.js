// Reruns a live panel once the server's signature file says that something it shows has changed (components/live.py).
export default function ({ data, parentElement, setTriggerValue }) {
  window.__rampartLive ??= { panels: new Map(), now: {}, failures: 0, waiting: null };
  const live = window.__rampartLive;
  live.url = data.url;
  const fire = (value) => setTriggerValue("changed", value);
  live.panels.set(data.key, { ...data, element: parentElement, drawn: Date.now(), fire });

  // Panels rerun one at a time, because Streamlit keeps only the latest of several reruns that wait. The panel drawn longest
  // ago goes first. A run's status and counters are cheap to draw, so they never wait for more than one chart. A chart
  // rests two seconds between redraws, because the server may share its cores with the search that the chart shows.
  const head = (panel) => panel.topic.startsWith("run:") || panel.topic === "runs";
  const rested = (panel) => Date.now() - panel.drawn > (head(panel) ? 800 : 2000);
  const rank = (panel) => panel.drawn - (panel.topic.startsWith("run:") && Date.now() - panel.drawn > 800 ? 60000 : 0);
  const next = () => {
    if (live.waiting && Date.now() - live.waiting.since < 3000) return;
    live.waiting = null;
    let oldest = null;
    for (const [key, panel] of live.panels) {
      if (!panel.element.isConnected) {
        live.panels.delete(key);
        continue;
      }
      const seen = live.now ? live.now[panel.topic] : undefined;
      // If the server has dropped the topic of a panel, the panel is drawn again, which makes the server watch the topic again.
      const due = seen !== undefined ? seen !== panel.signature && rested(panel) : Date.now() - panel.drawn > 3000;
      if (due && (!oldest || rank(panel) < rank(oldest))) oldest = panel;
    }
    if (!oldest) return;
    live.waiting = { key: oldest.key, since: Date.now() };
    oldest.drawn = Date.now();
    oldest.fire(String(Date.now()));
  };
  if (live.waiting && live.waiting.key === data.key) {
    live.waiting = null;
    setTimeout(next, 0);
  }
  if (live.timer) return;
  const look = async () => {
    if (document.hidden || live.asking) return;
    live.asking = true;
    let answer = null;
    try {
      const response = await fetch(live.url, { cache: "no-store" });
      answer = response.ok ? await response.json() : null;
    } catch {
      /* the server is restarting, or the static file cannot be fetched */
    }
    live.asking = false;
    live.failures = answer ? 0 : live.failures + 1;
    if (answer) live.now = answer;
    else if (live.failures >= 3) live.now = null;
    else return;
    next();
  };
  live.timer = setInterval(look, 300);
  document.addEventListener("visibilitychange", look);
}
