"""The Runs page: the list of all runs. Users filter, sort and group the list, and act on the runs that they select.

The page's address holds the whole view. Each browser tab has its own selection.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import address, session
from app.components.live import live_panel
from app.components.queue_note import queue_note
from app.components.run_bulk import PICKED, selection_box, show_answer
from app.components.run_columns import columns_shown, run_rows
from app.components.run_filter import filter_controls
from app.components.run_trash import trash_list
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, problem
from app.components.table import TableAction, orders_of, table
from app.downloads import File
from app.formats import plural
from app.run_export import as_json
from app.run_list import PAGE_ROWS, View, page_of, selected_runs
from engine.errors import ConfigError, RampartError
from engine.run.folder import run_ids
from engine.run.trash import trash_of, trashed_runs
from engine.study.folder import StudyFolder

EXPORT_HELP = ("All runs that match the filter, in this order, with every value at full precision: "
               "rampart runs --where EXPRESSION --json")


@live_panel("runs", key="runs_list")
def runs_list() -> None:
    """Show the controls, the list of runs, and above the list a box with actions on the selected runs."""
    runs, root = session.run_log().runs(), session.runs_root()
    trashed = len(run_ids(trash_of(root)))
    if runs.empty and not trashed:
        empty_state("No runs yet", "Searches, retrainings and attacks appear here with the accuracies they measured.",
                    "The defaults need no GPU and no download.",
                    link=LAUNCH_PAGE, link_label="Launch the first run")
        return
    archived = int(runs["archived"].sum())
    filter_controls({"active": len(runs) - archived, "archived": archived, "trash": trashed})
    view = View.of(st.query_params.to_dict())
    if view.show == "trash":
        trash_list(trashed_runs(root))
        return
    try:
        kept = selected_runs(runs, view)
    except ConfigError as refusal:
        problem(str(refusal), link=None)
        return
    if kept.empty:
        show_answer()
        nothing_matches(view, len(runs) - archived)
    else:
        listed(kept, runs, view)


def nothing_matches(view: View, active: int) -> None:
    """Show why the list is empty, and what the user can do."""
    filtered = view.text or view.where or view.statuses or view.kinds
    if filtered:
        empty_state("No run matches the filter", "Remove a word, or choose another status or kind.")
    elif view.show == "archived":
        empty_state("The archive is empty", "Runs that you archive are listed here, and nowhere else in this list.")
    elif not active:
        empty_state("All runs are archived or in the trash", "The switch above shows them.")


def listed(kept: pd.DataFrame, runs: pd.DataFrame, view: View) -> None:
    """Show one page of the list of runs, and above it a box with actions on the selected runs.

    Args:
        kept: the runs that match the filter, in order.
        runs: all runs.
        view: the reader's view.
    """
    box = st.container()
    summary(kept, runs, view)
    part, page, pages = page_of(kept, view)
    columns = columns_shown(address.several("columns"))
    known = set(kept["id"])
    picked = [one for one in st.session_state.get(PICKED, []) if one in known]
    sizes = {str(name): int(size) for name, size in kept["group"].value_counts().items()}
    action = table(columns, run_rows(part, columns, picked, titles_of(part, runs), address.several("folded"), sizes),
                   key="runs_table", label="Runs", selectable=True, presorted=True,
                   sort=address.chosen("sort", orders_of(columns), "unsorted"), file="runs",
                   data=lambda: kept.drop(columns="group"),
                   further=[File("JSON", "runs.json", "application/json", partial(as_json, kept), EXPORT_HELP)])
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    store(action)
    if action.picks is not None:
        here = set(part["id"])
        picked = [*(one for one in picked if one not in here), *action.picks]
    st.session_state[PICKED] = picked
    with box:
        selection_box(kept[kept["id"].isin(picked)], kept)
    pager(page, pages, len(kept))


def store(action: TableAction) -> None:
    """Store in the page's address what a click on a heading changes, and rerun the list.

    The heading of a column changes the order of the runs. The heading of a group folds or unfolds the group.
    """
    folded = address.several("folded")
    if action.sort:
        address.choose(sort="" if action.sort == "unsorted" else action.sort, page="", folded="")
    if action.folded:
        address.choose(folded=[one for one in folded if one != action.folded] if action.folded in folded else
                       [*folded, action.folded])
    if action.sort or action.folded:
        st.rerun(scope="fragment")


def summary(kept: pd.DataFrame, runs: pd.DataFrame, view: View) -> None:
    """Show the number of runs in the list, and a sentence about their order."""
    running = int((runs["status"] == "running").sum())
    words = [f"{len(kept):,} of {plural(len(runs), 'run')}" + (f", {running} running" if running else "")]
    if view.compares_accuracies:
        words.append("Only accuracies under the same heading are comparable: same data, split and attacks")
    elif len({(kind, protocol) for kind, protocol in zip(kept["kind"], kept["protocol"], strict=True)}) > 1:
        words.append("Accuracies on different splits or under different protocols are not comparable")
    st.caption(". ".join(words) + ".")


def titles_of(part: pd.DataFrame, runs: pd.DataFrame) -> dict[str, str]:
    """Return {id: text to show in its place}.

    For a study, the text is its question. For the first run of a chain, it is the title and the id of the run. A study that
    cannot be read is left out.

    Args:
        part: the runs of the page, with the column `group`.
        runs: all runs.
    """
    first = runs[runs["id"].isin(part["group"])]
    titles = {run: f"{title}, {run}" for run, title in zip(first["id"], first["title"], strict=True)}
    for study in set(part["study"]) - {""}:
        try:
            titles[study] = StudyFolder(session.runs_root(), study).read().question
        except RampartError:
            continue
    return titles


def pager(page: int, pages: int, total: int) -> None:
    """Show the buttons for the previous and the next page of the list. If the list has only one page, show nothing."""
    if pages == 1:
        return
    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        for label, icon, target in (("Previous", "chevron_left", page - 1), ("Next", "chevron_right", page + 1)):
            st.button(label, key=f"runs.page.{label}", icon=f":material/{icon}:", disabled=not 1 <= target <= pages,
                      on_click=turn, args=(target,), shortcut=label[0].lower())
            if label == "Previous":
                first = (page - 1) * PAGE_ROWS
                st.caption(f"{first + 1:,} to {min(first + PAGE_ROWS, total):,} of {total:,}")


def turn(page: int) -> None:
    """Store in the page's address which page of the list to show."""
    address.choose(page=str(page) if page > 1 else "")


heading("Runs")
queue_note()
runs_list()
