"""A row of steps that shows a chain: a search with the retrainings and attacks that follow it.

Each step stands for one run, shows the status of the run and links to the page of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app import theme
from app.formats import duration, escape, missing, percent


def steps_html(runs: Sequence[Mapping[str, Any]], current: str) -> str:
    """Return the runs of a chain as an HTML list of links, with the current run marked.

    Args:
        runs: the runs of the chain, earliest first. Each has the keys id, kind and status and, if known, parent, progress
            (0..1) and seconds_left.
        current: id of the run whose page shows the chain.
    """
    items = []
    statuses = {str(run["id"]): str(run["status"]) for run in runs}
    for position, run in enumerate(runs):
        # Two attacks on one network do not follow from each other, so no arrow joins them.
        sign = "" if not position else "→" if run["kind"] != runs[position - 1]["kind"] else "and"
        joint = f'<span class="rp-arrow rp-label" aria-hidden="true">{sign}</span>' if sign else ""
        several = sum(other["kind"] == run["kind"] for other in runs) > 1
        items.append(f"<li>{joint}{_step(run, current, several, statuses.get(str(run.get('parent')), ''))}</li>")
    return f'<ol class="rp-steps" aria-label="Steps of this chain">{"".join(items)}</ol>'


def _step(run: Mapping[str, Any], current: str, several: bool, parent_status: str) -> str:
    """Return a step as HTML. If the chain has several runs of this kind, the step names the end of the run's id."""
    kind = theme.KIND_TITLES.get(str(run["kind"]), str(run["kind"]))
    glyph, tone = theme.STATUS.get(str(run["status"]), ("?", "muted"))
    words = escape(step_words(run, parent_status))
    end = f' <span class="rp-label">{escape(str(run["id"]).rsplit("-", 1)[-1])}</span>' if several else ""
    inside = (f'<span><b>{escape(kind)}</b>{end}</span><span class="rp-tone-{tone}"><span aria-hidden="true">{glyph}</span> '
              f"{words}</span>")
    if run["id"] == current:
        return f'<span class="rp-step" aria-current="page">{inside}</span>'
    return f'<a class="rp-step" href="run?id={escape(run["id"])}" target="_self">{inside}</a>'


def step_words(run: Mapping[str, Any], parent_status: str = "") -> str:
    """Return the state of a run in words, for example "Running, 42 %, 3 min left", "Finished" or "Waiting".

    Args:
        run: the run, as in `steps_html`.
        parent_status: status of the run that this run follows; "" if it follows none.
    """
    status = str(run["status"])
    if status == "queued":
        return "Held until the run before it is resumed" if parent_status in ("stopped", "failed") else "Waiting"
    if status in ("running", "stopping"):
        parts = [status.capitalize()]
        if not missing(run.get("progress")):
            parts.append(percent(run["progress"], 0))
        if status == "running" and not missing(run.get("seconds_left")):
            parts.append(f"{duration(run['seconds_left'])} left")
        return ", ".join(parts)
    return status.capitalize()
