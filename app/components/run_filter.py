"""The controls above the list of runs. They keep the reader's view in the page's address and can save it by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app import address, session
from app.components.act_button import act_button
from app.components.run_columns import ALWAYS, TITLES, USUAL
from app.formats import markdown
from app.run_list import GROUPS, PARAMETERS, SHOWN, saved_address
from app.saved_views import LONGEST_NAME, delete_view, parameters_of, save_view, saved_views
from app.theme import KIND_TITLES
from engine.config.run import KINDS
from engine.errors import RampartError
from engine.log.filtering import EXAMPLES, NAMES
from engine.run.state import STATUSES

REFUSAL = "runs.view_refusal"
EXPRESSION_HELP = ("List only the runs for which this is true, for example\n\n" + "\n\n".join(f"`{one}`" for one in EXAMPLES) +
                   "\n\nTexts need quotes, accuracies are fractions. The names are " + ", ".join(f"`{one}`" for one in NAMES) +
                   "; `rampart runs --help` explains them.")


def filter_controls(counts: dict[str, int]) -> None:
    """Show the controls above the list.

    Args:
        counts: number of runs under each of the keys "active", "archived" and "trash".
    """
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        address.segmented("Runs", {name: f"{title} ({counts[name]:,})" for name, title in SHOWN.items()}, name="show",
                          key="runs.show", label_visibility="collapsed", help="Archived runs are hidden here and counted "
                          "everywhere else. Runs in the trash appear nowhere else, and can be restored until they are deleted.")
    with right.container(horizontal=True, horizontal_alignment="right"):
        if st.query_params.get("show") != "trash":
            _views()
            _columns()
    if st.query_params.get("show") == "trash":
        return
    words, expression, states, kinds, groups = st.columns([2.2, 3, 1.6, 1.6, 1.3])
    _text(words, "Find", "q", "runs.text", "Name, id, preset, dataset, study, tag or note", "Runs that contain all these words.")
    _text(expression, "Filter", "where", "runs.where", EXAMPLES[0], EXPRESSION_HELP)
    _several(states, "Status", "status", "runs.statuses", {name: name.capitalize() for name in STATUSES})
    _several(kinds, "Kind", "kind", "runs.kinds", {name: KIND_TITLES[name] for name in KINDS})
    address.selectbox(groups, "Groups", GROUPS, name="group", key="runs.group", also=_first_page,
                      help="A chain is a search with the retraining and the attack that follow it.")


def _text(where: st.delta_generator.DeltaGenerator, label: str, name: str, key: str, example: str, about: str) -> None:
    """Show a text field that keeps its text in the page's address.

    The field is set from the page's address only if the two texts differ. Setting it at each rerun would overwrite what the
    reader is typing.
    """
    if st.session_state.get(key) != st.query_params.get(name, ""):
        st.session_state[key] = st.query_params.get(name, "")
    where.text_input(label, key=key, placeholder=example, help=about, on_change=_stored(name, key), type="search",
                     live="300ms" if name == "q" else False)


def _several(where: st.delta_generator.DeltaGenerator, label: str, name: str, key: str, options: dict[str, str]) -> None:
    st.session_state[key] = address.several(name, options)
    where.multiselect(label, list(options), key=key, format_func=options.__getitem__, placeholder="any",
                      on_change=_stored(name, key))


def _stored(name: str, key: str) -> Callable[[], None]:
    def store() -> None:
        address.choose(**{name: st.session_state[key]})
        _first_page()

    return store


def _first_page() -> None:
    address.choose(page="", folded="")


def _columns() -> None:
    """Show the selector of columns. The choice is kept in the page's address unless it is the default."""
    key = "runs.columns"
    options = [name for name in TITLES if name not in ALWAYS]
    st.session_state[key] = address.several("columns", options) or [name for name in USUAL if name in options]

    def store() -> None:
        chosen = [name for name in TITLES if name in st.session_state[key]]
        address.choose(columns=[] if {*chosen, *ALWAYS} == set(USUAL) else chosen or ["title"])

    with st.popover("Columns", icon=":material/view_column:", help="Choose the columns of the list."):
        st.pills("Columns", options, key=key, selection_mode="multi", format_func=TITLES.__getitem__, on_change=store)


def _views() -> None:
    """Show the saved views, which open with a click, and the field that saves the current view."""
    root = session.runs_root()
    with st.popover("Views", icon=":material/bookmark:", help="Save filters, columns, groups and order under a name."):
        try:
            saved = saved_views(root)
        except RampartError as refusal:
            st.caption(markdown(refusal))
            return
        for name, query in saved.items():
            with st.container(horizontal=True):
                st.button(markdown(name), key=f"runs.view.{name}", on_click=_open, args=(query,), width="stretch")
                act_button("Delete", key=f"runs.unsave.{name}", icon=":material/delete:",
                          help=f"Delete the view {markdown(name)}.", on_click=_act, args=(delete_view, root, name))
        if not saved:
            st.caption("No saved view yet. The address of this page holds the view as well: a copied link opens the same list.")
        st.text_input("Save this view as", key="runs.view_name", max_chars=LONGEST_NAME)
        act_button("Save", key="runs.save_view", on_click=_save, args=(root,))
        if words := st.session_state.pop(REFUSAL, ""):
            st.caption(markdown(words))


def _open(query: str) -> None:
    parameters = parameters_of(query)
    address.choose(**{name: parameters.get(name, "") for name in PARAMETERS})


def _save(root: Path) -> None:
    _act(save_view, root, st.session_state.get("runs.view_name", ""), saved_address(st.query_params.to_dict()))


def _act(action: Callable[..., None], *arguments: object) -> None:
    try:
        action(*arguments)
    except RampartError as refusal:
        st.session_state[REFUSAL] = str(refusal)
