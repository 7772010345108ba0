"""The columns of the list of runs, and functions that make a run's table cell for each column."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from app import theme
from app.components.badge import BADGE_HELP, badge_cell, badge_of
from app.components.table import NO_SORT, CellText, Column, Row, age_text
from app.formats import EMPTY, NOT_MEASURED, accuracy, coarse, count, dataset_title, duration, interval, missing, plural, shown
from app.run_list import split_of
from engine.report.robustness import WORST_TITLE
from engine.run.state import SILENT_S

LONGEST_NOTE = 60
_MEASURED = ("Attack runs measure it on the test split, with a 95 % Wilson interval. Values on another split guide a run and "
             "are not a result, so sorting keeps runs together that were measured alike.")
COLUMNS = (
    Column("title", "Run"), Column("status", "Status", help="What the run is doing now, and why it failed, stopped or waits."),
    Column("kind", "Kind"), Column("study", "Study", help="The study that the run was launched for."), Column("dataset", "Data"),
    Column("natural", "Natural", "right", f"Accuracy on unchanged images. {_MEASURED}"),
    Column("adversarial", "Adversarial", "right", f"Accuracy in the worst case over all attacks, or under the attack named. "
           f"{_MEASURED}"),
    Column("badge", "Badge", help=BADGE_HELP), Column("progress", "Progress"),
    Column("parameters", "Parameters", "right", "Number of parameters of the trained or attacked network."),
    Column("device", "Device", help="Device of the latest attempt."),
    Column("seed", "Seed", "right", "Random seed of the run."),
    Column("age", "Age", "right", "Time since it was launched."),
    Column("duration", "Took", "right", "Time that the latest attempt has taken so far."),
    Column("tags", "Tags and note", help="Select a run to change its tags and its note."),
)
TITLES = {column.key: column.label for column in COLUMNS}
ALWAYS = ("title", "status")  # a list without them could not be read
USUAL = ("title", "status", "kind", "dataset", "natural", "adversarial", "badge", "progress", "age", "tags")


def columns_shown(chosen: Sequence[str]) -> list[Column]:
    """Return the chosen columns and the columns in `ALWAYS`, in the usual order. If none is chosen, use the default columns."""
    keys = {*ALWAYS, *chosen} if chosen else set(USUAL)
    return [column for column in COLUMNS if column.key in keys]


def run_rows(runs: pd.DataFrame, columns: Sequence[Column], picked: Sequence[str], titles: Mapping[str, str],
             folded: Sequence[str], sizes: Mapping[str, int]) -> list[Row]:
    """Return the rows of one page of the list, with a heading above each group.

    Args:
        runs: runs of the page in order, with the column `group` of `app.run_list.ordered`.
        columns: the columns of the table.
        picked: ids of the selected runs.
        titles: {id of a study or of the first run of a chain: text to show in its place}.
        folded: ids of the headings whose runs are hidden (`group_id`).
        sizes: {heading: number of runs in its group, also on other pages}.
    """
    rows: list[Row] = []
    for run in runs.to_dict("records"):
        heading, group = run["group"], group_id(run["group"]) if len(sizes) > 1 or run["group"] else ""
        if group and (not rows or rows[-1].group != group):
            rows.append(_heading(titles.get(heading, heading) or "No study", group, sizes[heading], group in folded))
        rows.append(row_of(run, columns, run["id"] in picked, titles, group))
    return rows


def row_of(run: Mapping[str, Any], columns: Sequence[Column], picked: bool, titles: Mapping[str, str], group: str) -> Row:
    """Return the row of a run.

    Args:
        run: row of the run, from `RunLog.runs`.
        columns: the columns that are shown.
        picked: True if the run is selected.
        titles: {id of a study: its question}.
        group: id of the heading above the run, or "".
    """
    cells = {"title": _title(run), "status": _status(run), "study": _study(run, titles), "progress": progress(run),
             "kind": CellText(theme.KIND_TITLES.get(run["kind"], EMPTY), sub=shown(run["preset"])),
             "dataset": CellText(dataset_title(shown(run["dataset"])) or EMPTY),
             "natural": number(run, "natural", ""),
             "adversarial": number(run, "adversarial", shown(run["adversarial_attack"])),
             "badge": badge_cell(badge_of(run)), "age": age(run["created"]), "tags": _tags(run),
             "parameters": CellText(count(run["parameters"])), "device": CellText(shown(run["device"]).upper() or EMPTY),
             "seed": CellText(EMPTY if missing(run["seed"]) else f"{run['seed']:.0f}"),
             "duration": CellText(duration(run["duration_s"]))}
    return Row(run["id"], {column.key: cells[column.key] for column in columns}, name=f"{name_of(run)} {run['id']}", group=group,
               picked=picked)


def group_id(heading: str) -> str:
    """Return the id of the heading row of a group, a short text that can be part of the page's address."""
    return "group-" + hashlib.sha256(heading.encode()).hexdigest()[:8]


def name_of(run: Mapping[str, Any]) -> str:
    """Return the title of a run, or "Unreadable run" if its run.json cannot be read."""
    return shown(run["title"]) if run["title"] != run["id"] else "Unreadable run"


def age(created: float | None) -> CellText:
    """Return the table cell with the time since a run was launched. The browser keeps this time up to date."""
    if missing(created):
        return CellText(EMPTY, sort=NO_SORT)
    return CellText(age_text(max(0.0, time.time() - created)), since=float(created), sort=-float(created))


def cause_of(run: Mapping[str, Any]) -> str:
    """Return the cause of a run's status in at most 90 characters, or "".

    For a run that failed, waits or finished early, this is the recorded reason. For a running run that has written no event for a
    minute, this is the time since the last event.
    """
    if run["status"] == "running" and not missing(run["silent_s"]) and run["silent_s"] >= SILENT_S:
        return f"no news for {coarse(run['silent_s'])}"
    return _short(shown(run["cause"]) if run["status"] in ("failed", "queued", "finished") else "", 90)


def number(run: Mapping[str, Any], name: str, attack: str) -> CellText:
    """Return the table cell of an accuracy.

    The cell has a second line:

    * For an accuracy on the test split, it gives the interval, the number of images and the attack. The worst case over all
      attacks names no attack. The tooltip gives the protocol.
    * For any other accuracy, which is grey, it names the attack and the split and says that the accuracy is not a result.

    Args:
        run: row of the run, from `RunLog.runs`.
        name: "natural" or "adversarial".
        attack: title of the attack, or "".
    """
    value, low, high, images = (run[f"{name}_{end}"] for end in ("accuracy", "low", "high", "images"))
    if missing(value):
        return CellText(NOT_MEASURED, sort=NO_SORT, muted=True)
    split = split_of(run)
    words = ((attack, split, "not a result") if missing(low) else
             ("" if attack == WORST_TITLE else attack, interval(low, high), f"{images:,.0f} images"))
    hint = (f"Protocol {run['protocol']}: {run['protocol_title']}" if run["protocol"] else
            ", ".join(filter(None, (attack, split))))
    return CellText(accuracy(value), sub=", ".join(filter(None, words)), sort=float(value), hint=hint, muted=missing(low))


def progress(run: Mapping[str, Any]) -> CellText:
    """Return the table cell of a run's progress: per cent, bar and time left."""
    if missing(run["progress"]):
        return CellText("waiting" if run["status"] == "queued" else EMPTY, sort=NO_SORT, muted=True)
    fill = {"finished": "good", "failed": "bad", "stopped": "warn"}.get(run["status"], "")
    left = ""
    if run["status"] == "running" and run["progress"] < 1:
        left = shown(run["detail"]) if missing(run["seconds_left"]) else f"about {duration(run['seconds_left'])} left"
    share = float(run["progress"])
    return CellText(f"{100 * share:.0f} %", sub=left, sort=share, fraction=share, fill=fill)


def _title(run: Mapping[str, Any]) -> CellText:
    return CellText(name_of(run), sub=run["id"] + (" · example" if run["example"] else ""), href=f"run?id={run['id']}")


def _status(run: Mapping[str, Any]) -> CellText:
    glyph, tone = theme.STATUS.get(run["status"], ("?", "muted"))
    return CellText(run["status"].capitalize(), tone=tone, glyph=glyph, sub=cause_of(run), hint=shown(run["cause"]))


def _study(run: Mapping[str, Any], titles: Mapping[str, str]) -> CellText:
    question = titles.get(run["study"], run["study"])
    return CellText(_short(question, LONGEST_NOTE) or EMPTY, hint=question)


def _tags(run: Mapping[str, Any]) -> CellText:
    note = " ".join(run["note"].split())
    return CellText(run["tags"].replace(" ", " · "), sub=_short(note, LONGEST_NOTE), hint=run["note"])


def _heading(words: str, row: str, size: int, folded: bool) -> Row:
    return Row(row, {"title": CellText(f"{words} ({plural(size, 'run')})")}, name=words, heading=True, folded=folded)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest - 1].rstrip() + "…"
