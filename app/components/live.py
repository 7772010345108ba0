"""Live panels: a panel reruns when something it shows has changed, and never otherwise.

    @live_panel("runs", key="runs_table")
    def table() -> None:
        ...draw from session.run_log()...

    table()

The panel is a Streamlit fragment holding one invisible component. In the browser all such components share one timer,
which fetches the server's signature file once a second (`session.Hub`); the one whose topic has another signature than
the panel was drawn with triggers a rerun of its fragment alone. Nothing changed: nothing runs, no DOM node is touched.
A hidden tab does not ask. When the file cannot be fetched the panel falls back to a rerun every three seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import streamlit as st

from app import session

_SCRIPT = """
export default function ({ data, parentElement, setTriggerValue }) {
  const live = (window.__rampartLive ??= { panels: new Map(), failures: 0 });
  live.panels.set(data.key, { ...data, element: parentElement, fire: (value) => setTriggerValue("changed", value), sent: 0 });
  live.url = data.url;
  if (live.timer) return;
  const look = async () => {
    if (document.hidden || live.busy) return;
    live.busy = true;
    let now = null;
    try {
      const answer = await fetch(live.url, { cache: "no-store" });
      now = answer.ok ? await answer.json() : null;
    } catch { /* the server is restarting, or static files do not come through */ }
    live.busy = false;
    live.failures = now ? 0 : live.failures + 1;
    const blind = live.failures >= 3 && live.failures % 3 === 0;
    for (const [key, panel] of live.panels) {
      if (!panel.element.isConnected) { live.panels.delete(key); continue; }
      const seen = now ? now[panel.topic] : undefined;
      const changed = seen !== undefined && seen !== panel.signature;
      // One rerun at a time: the next waits for the panel to be drawn with a new signature, ten seconds at most.
      if ((changed || blind) && Date.now() - panel.sent > 10000) { panel.sent = Date.now(); panel.fire(seen ?? "blind"); }
    }
  };
  live.timer = setInterval(look, 1000);
  document.addEventListener("visibilitychange", look);
}
"""

_ticker = st.components.v2.component("rampart_ticker", html="<span hidden></span>", js=_SCRIPT, isolate_styles=False)


def live_panel(topic: str, *, key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: makes a function a panel that follows `topic`.

    Args:
        topic: "runs", or "run:<id>" (see `session`).
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
