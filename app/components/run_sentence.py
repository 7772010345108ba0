"""The sentence at the top of each tab of the Run page. It sums up what the tab shows now (`engine.insight.sentences`)."""

from __future__ import annotations

from app import session
from app.components.live import feed_of
from app.components.live_html import live_html
from app.formats import escape
from engine.insight.sentences import sentence
from engine.log import RunLog

# The topic after which the sentence of a panel changes. Those of other panels change with the epoch, at which the page redraws
# the panel: the architecture weights of a long search take too long to read at every step.
TOPICS = {"overview": "training", "objectives": "training", "trade_off": "training"}


def told(run_id: str, panel: str) -> None:
    """Show the sentence at the top of a tab, which sums up what the tab shows; show nothing if there is none for this run.

    Args:
        run_id: id of the run.
        panel: name of the sentence, a key of `engine.insight.sentences.PANELS`.
    """
    feed = feed_of(f"{TOPICS.get(panel, 'epochs')}:{run_id}", sentence_html, run_id, panel)
    live_html(feed, key=f"run_told_{panel}", live=panel in TOPICS and not session.run_log().state(run_id).is_over)


def sentence_html(log: RunLog, run_id: str, panel: str) -> str:
    """Return as HTML the sentence that `told` shows for the key `panel`; "" if there is none for this run."""
    words = sentence(log, run_id, panel).replace(" %", "\u00a0%")  # a number keeps its unit on its line
    return f'<p class="rp-told">{escape(words)}</p>' if words else ""
