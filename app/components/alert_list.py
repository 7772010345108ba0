"""Alerts as HTML: the bell button, and lists in which a sign and a word give the level of each alert.

A click on the bell, which every page has, opens the list of all alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app import session
from app.components.live import live_panel
from app.formats import escape, moment, plural
from engine.insight.alerts import LEVELS, Alert

LOOKS = {"error": ("✕", "bad", "Error"), "warning": ("!", "warn", "Warning"), "info": ("i", "muted", "Note")}
MOST = 50  # alerts in the bell's list


@live_panel("alerts", key="bell")
def bell() -> None:
    """Show the bell with the number of alerts of the worst level. A click opens the list of all alerts."""
    alerts = () if session.hub().loading else session.hub().alerts.now()
    runs = sorted({alert.run for alert in alerts[:MOST] if alert.run})
    listed = session.run_log().runs(runs) if runs else None
    titles = {} if listed is None else dict(zip(listed["id"], listed["title"], strict=True))
    st.html(bell_html(alerts, titles))


def bell_html(alerts: Sequence[Alert], titles: Mapping[str, str]) -> str:
    """Return the HTML of the alert bell and of the list that it opens.

    Args:
        alerts: all alerts, worst first.
        titles: {id of a run: its title}.
    """
    words, number = counted(alerts), ""
    if alerts:
        glyph, tone, _ = LOOKS[alerts[0].level]
        worst = sum(alert.level == alerts[0].level for alert in alerts)
        number = f'<span class="rp-bellcount rp-tone-{tone}"><span aria-hidden="true">{glyph}</span> {worst}</span>'
    hidden = f'<p class="rp-label">{len(alerts) - MOST} more are on the pages of their runs.</p>' if len(alerts) > MOST else ""
    return (f'<button class="rp-bell" type="button" popovertarget="rp-alerts" aria-label="Alerts: {words}" title="{words}">'
            f'{number}</button><div id="rp-alerts" class="rp-alerts" popover="auto"><h2>{words}</h2>'
            f"{list_html(alerts[:MOST], titles)}{hidden}"
            '<p class="rp-label">Runs that are active or ended within the last day, and the disk of the runs.</p></div>')


def counted(alerts: Sequence[Alert]) -> str:
    """Return the numbers of alerts by level, for example "1 error, 2 warnings", or "No alerts"."""
    counts = [(sum(alert.level == level for alert in alerts), LOOKS[level][2].lower()) for level in LEVELS]
    return ", ".join(plural(count, word) for count, word in counts if count) or "No alerts"


def list_html(alerts: Sequence[Alert], titles: Mapping[str, str] | None = None) -> str:
    """Return a list of alerts as HTML; "" without any.

    Args:
        alerts: the alerts.
        titles: {id of a run: its title}, for links to the runs; None for a list about one run, without links.
    """
    items = "".join(_item(alert, titles) for alert in alerts)
    return f'<ul class="rp-alertlist">{items}</ul>' if items else ""


def _item(alert: Alert, titles: Mapping[str, str] | None) -> str:
    glyph, tone, word = LOOKS[alert.level]
    about = [f"epoch {alert.epoch}, step {alert.step:,}"] if alert.epoch and alert.step is not None else []
    about += [moment(alert.t)] if alert.t is not None else []
    run = ""
    if titles is not None and alert.run:
        name = f"{titles.get(alert.run, alert.run)} · {alert.run.rsplit('-', 1)[-1]}"
        run = f'<a href="run?id={escape(alert.run)}" target="_self">{escape(name)}</a>'
    return (f'<li class="rp-alert rp-tone-{tone}" data-level="{alert.level}"><span class="rp-glyph" aria-hidden="true">'
            f'{glyph}</span><div><b>{word}</b> <span class="rp-alerttext">{escape(alert.sentence)}</span>'
            f'<span class="rp-label">{" · ".join(filter(None, [run, *map(escape, about)]))}</span></div></li>')
