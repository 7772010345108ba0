"""Live panels: a panel reruns when something it shows has changed, and never otherwise.

    @live_panel("runs", key="runs_table")
    def table() -> None:
        ...draw from session.run_log()...

    table()

The panel is a Streamlit fragment holding one invisible component. In the browser all such components share one timer,
which fetches the server's signature file three times a second (`session.Hub`); the one whose topic has another signature than
the panel was drawn with triggers a rerun of its fragment alone, one panel after the other. Nothing changed: nothing runs,
no DOM node is touched. A hidden tab does not ask. While the file cannot be fetched, panels rerun every three seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import streamlit as st

from app import session

_SCRIPT = """
export default function ({ data, parentElement, setTriggerValue }) {
  const live = (window.__rampartLive ??= { panels: new Map(), now: {}, failures: 0, waiting: null });
  live.url = data.url;
  const fire = (value) => setTriggerValue("changed", value);
  live.panels.set(data.key, { ...data, element: parentElement, drawn: Date.now(), fire });

  // One rerun at a time: Streamlit keeps only the latest of several that wait. The panel drawn longest ago goes first, but
  // a run's status and counters, which are cheap, never wait for more than one of its charts.
  // A chart rests two seconds between redraws: it shares the cores with the search it shows.
  const head = (panel) => panel.topic.startsWith("run:") || panel.topic === "runs";
  const rested = (panel) => Date.now() - panel.drawn > (head(panel) ? 800 : 2000);
  const rank = (panel) => panel.drawn - (panel.topic.startsWith("run:") && Date.now() - panel.drawn > 800 ? 60000 : 0);
  const next = () => {
    if (live.waiting && Date.now() - live.waiting.since < 3000) return;
    live.waiting = null;
    let oldest = null;
    for (const [key, panel] of live.panels) {
      if (!panel.element.isConnected) { live.panels.delete(key); continue; }
      const seen = live.now ? live.now[panel.topic] : undefined;
      // A topic that the server no longer watches is watched again by drawing the panel.
      const due = seen !== undefined ? seen !== panel.signature && rested(panel) : Date.now() - panel.drawn > 3000;
      if (due && (!oldest || rank(panel) < rank(oldest))) oldest = panel;
    }
    if (!oldest) return;
    live.waiting = { key: oldest.key, since: Date.now() };
    oldest.drawn = Date.now();
    oldest.fire(String(Date.now()));
  };
  if (live.waiting && live.waiting.key === data.key) { live.waiting = null; setTimeout(next, 0); }
  if (live.timer) return;
  const look = async () => {
    if (document.hidden || live.asking) return;
    live.asking = true;
    let answer = null;
    try {
      const response = await fetch(live.url, { cache: "no-store" });
      answer = response.ok ? await response.json() : null;
    } catch { /* the server is restarting, or static files do not come through */ }
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
"""

_ticker = st.components.v2.component("rampart_ticker", html="<span hidden></span>", js=_SCRIPT, isolate_styles=False)


def live_panel(topic: str, *, key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: makes a function a panel that follows `topic`.

    Args:
        topic: "runs" or, of one run, "run:<id>", "training:<id>", "architecture:<id>", "log:<id>" (see `session`).
        key: unique on the page, stable between runs.

    Widgets inside the panel rerun only the panel. It must not write to containers made outside of it.
    """
    def decorate(draw: Callable[..., Any]) -> Callable[..., Any]:
        @st.fragment
        @wraps(draw)
        def panel(*args: Any, **kwargs: Any) -> None:
            shared = session.hub()
            signature = shared.watch(topic)
            draw(*args, **kwargs)
            with st.container(key=f"rampart-ticker-{key}"):
                _ticker(data={"key": key, "topic": topic, "signature": signature, "url": shared.live_url},
                        key=f"ticker_{key}", on_changed_change=_nothing)
        return panel
    return decorate


def _nothing() -> None:
    """Streamlit reports a trigger only to components that have a callback for it."""
