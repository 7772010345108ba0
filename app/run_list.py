"""The reader's view of the list of runs: which runs, in which order and groups, and on which page. This module draws nothing.

The address of the Runs page holds the whole view, so that a copied address shows the same list. A saved view is the query string
of such an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pandas as pd

from app.formats import dataset_title, missing, shown
from engine.config.run import KINDS
from engine.log.filtering import matching, matching_words
from engine.run.state import STATUSES

PAGE_ROWS = 50
# Query parameters of a view, in the order in which they stand in a saved view.
PARAMETERS = ("show", "q", "where", "status", "kind", "group", "sort", "columns", "folded", "page")
SHOWN = {"active": "Active", "archived": "Archived", "trash": "Trash"}
GROUPS = {"none": "No groups", "study": "By study", "chain": "By chain"}
ACCURACIES = {"natural": "natural_accuracy", "adversarial": "adversarial_accuracy"}
NOTHING = "Nothing measured"  # heading of the runs without accuracies
# Key of a column of the list -> column of `RunLog.runs` by which it is sorted.
SORTED_BY = {"title": "title", "status": "status", "kind": "kind", "dataset": "dataset", "study": "study", "badge": "badge",
             "progress": "progress", "parameters": "parameters", "device": "device", "seed": "seed", "age": "created",
             "duration": "duration_s", "tags": "tags", "note": "note", **ACCURACIES}
# The split on which each kind of run measures its accuracies. Accuracies on different splits are not comparable.
SPLITS = {"search": "alphas split", "retrain": "select split", "attack": "test split"}


@dataclass(frozen=True)
class View:
    """A view of the list of runs.

    Attributes:
        show: "active" for the runs that are not archived, "archived" for those that are, or "trash" for the runs in the trash.
        text: words that a run must contain.
        where: expression that must be true for a run (`engine.log.filtering`).
        statuses: allowed statuses; empty for all.
        kinds: allowed kinds of run; empty for all.
        group: "none", "study" or "chain".
        sort: key of a column, with a minus sign in front if the largest value comes first; "" for the newest first.
        page: number of the page, from 1.
    """

    show: str = "active"
    text: str = ""
    where: str = ""
    statuses: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    group: str = "none"
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, address: Mapping[str, str]) -> View:
        """Return the view that query parameters of the page's address describe. A wrong value is replaced by the default."""
        def several(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(one for one in address.get(name, "").split(",") if one in known)

        show, group, sort = address.get("show", ""), address.get("group", ""), address.get("sort", "")
        page = address.get("page", "")
        return cls(show if show in SHOWN else "active", address.get("q", ""), address.get("where", ""),
                   several("status", STATUSES), several("kind", KINDS), group if group in GROUPS else "none",
                   sort if sort.removeprefix("-") in SORTED_BY else "", int(page) if page.isdecimal() and len(page) < 7 else 1)

    @property
    def column(self) -> str:
        """Key of the column by which the list is sorted; "" for none."""
        return self.sort.removeprefix("-")

    @property
    def compares_accuracies(self) -> bool:
        """True if the list is sorted by an accuracy, so that only comparable runs may follow each other."""
        return self.column in ACCURACIES


def saved_address(address: Mapping[str, str]) -> str:
    """Return the query string under which a view is saved, for example "q=arnas&sort=-adversarial". It omits the page number.

    Args:
        address: query parameters of the page's address.
    """
    return urlencode([(name, address[name]) for name in PARAMETERS if address.get(name) and name != "page"],
                     errors="replace")


def selected_runs(runs: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return the runs that belong to a view, in its order.

    Args:
        runs: table of runs, newest first, from `RunLog.runs`.
        view: the view.

    Raises:
        ConfigError: the expression of the view cannot be read. The message is a sentence for the user.
    """
    keep = (runs["archived"] == (view.show == "archived")) & matching_words(runs, view.text)
    if view.statuses:
        keep &= runs["status"].isin(view.statuses)
    if view.kinds:
        keep &= runs["kind"].isin(view.kinds)
    kept = runs[keep]
    return ordered(kept[matching(kept, view.where)], runs, view)


def ordered(kept: pd.DataFrame, runs: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return runs in the order of a view. The added column `group` holds the heading of the group that a run belongs to.

    Runs of a group stand together. Groups come in the order of their first runs. If the view sorts by an accuracy, runs whose
    accuracies can be compared (`comparable`) also stand together: first attack runs, then searches and retrainings, whose
    accuracies are no results, and last runs without an accuracy.

    Args:
        kept: the runs to order, newest first.
        runs: all runs. If the view groups runs by chain, their earliest ancestors are looked up here.
        view: the view.
    """
    kept = kept.assign(group=_headings(kept, runs, view))
    if view.column:
        values = _sort_values(kept, view.column)
        falling = view.sort.startswith("-") != (view.column == "age")  # the youngest run has the smallest age
        kept = kept.loc[values.sort_values(ascending=not falling, kind="stable", na_position="last").index]
    if view.compares_accuracies and len(kept):
        groups = _comparables(kept)
        last = groups.eq(NOTHING) * 2 + kept["kind"].ne("attack")
        kept = kept.loc[last.sort_values(kind="stable").index]
        kept = _together(kept, groups.loc[kept.index])
    return _together(kept, kept["group"])


def comparable(run: Mapping[str, Any]) -> str:
    """Return a text that says how a run's accuracies were measured. Only runs with equal texts can be compared."""
    if all(missing(run[column]) for column in ACCURACIES.values()):
        return NOTHING
    data = dataset_title(shown(run["dataset"]))
    if run["kind"] == "attack":
        return f"{data}, test split, {run['protocol_title'] or 'protocol unknown'}"
    attack = f", {run['adversarial_attack']}" if run["adversarial_attack"] else ""
    return f"{data}, {split_of(run)}{attack}: guides the run, not a result"


def split_of(run: Mapping[str, Any]) -> str:
    """Return the split on which the accuracies of a run were measured.

    The split depends on the kind of run. A search uses the select split if it measures candidates one by one, and the alphas
    split otherwise.
    """
    candidates = run["kind"] == "search" and shown(run["accuracy_of"]).startswith("select split")
    return "select split" if candidates else SPLITS.get(run["kind"], "")


def page_of(kept: pd.DataFrame, view: View) -> tuple[pd.DataFrame, int, int]:
    """Return the runs on page `view.page` of the list. If the number is too large, return the last page.

    Returns:
        The runs on the page.
        The number of the page, from 1.
        The number of pages.
    """
    pages = max(1, -(-len(kept) // PAGE_ROWS))
    page = min(max(1, view.page), pages)
    return kept.iloc[(page - 1) * PAGE_ROWS:page * PAGE_ROWS], page, pages


def _sort_values(runs: pd.DataFrame, column: str) -> pd.Series:
    values = runs[SORTED_BY[column]]
    if column == "status":
        return values.map(STATUSES.index)
    return values.str.lower().where(values != "") if pd.api.types.is_string_dtype(values) else values


def _headings(kept: pd.DataFrame, runs: pd.DataFrame, view: View) -> pd.Series:
    if view.group == "study":
        return kept["study"]
    if view.group == "chain":
        return _roots(runs).reindex(kept["id"]).set_axis(kept.index)
    if view.compares_accuracies and len(kept):
        return _comparables(kept)
    return pd.Series("", index=kept.index)


def _comparables(kept: pd.DataFrame) -> pd.Series:
    columns = ["kind", "dataset", "protocol", "protocol_title", "adversarial_attack", "accuracy_of", *ACCURACIES.values()]
    return pd.Series([comparable(run) for run in kept[columns].to_dict("records")], index=kept.index, dtype="str")


def _roots(runs: pd.DataFrame) -> pd.Series:
    """Return the id of each run's earliest ancestor among these runs, indexed by run id."""
    parents = dict(zip(runs["id"], runs["parent"], strict=True))

    def root(run: str) -> str:
        seen = {run}
        while (above := parents.get(run, "")) in parents and above not in seen:
            seen.add(run := above)
        return run

    return pd.Series({run: root(run) for run in parents}, dtype="str")


def _together(runs: pd.DataFrame, key: pd.Series) -> pd.DataFrame:
    """Return runs sorted so that runs with equal keys are adjacent. Groups come in the order of their first runs."""
    first = {value: place for place, value in reversed(list(enumerate(key)))}
    return runs.loc[key.map(first).sort_values(kind="stable").index]
