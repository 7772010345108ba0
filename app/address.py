"""The choices that the reader makes on a page, kept in the page's address (its URL). A copied address opens the same view.

No other place holds these choices. A control shows the value in the page's address. When the reader chooses another value, the
control writes it to the page's address, even if it equals the default, because the default may change as runs are added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

LabelVisibility = Literal["visible", "hidden", "collapsed"]


def chosen(name: str, known: Collection[str], default: str = "") -> str:
    """Return the value of a query parameter, or `default` if it is absent or not among the known values."""
    value = st.query_params.get(name, default)
    return value if value in known else default


def several(name: str, known: Collection[str] | None = None) -> list[str]:
    """Return the values of a comma-separated query parameter. If `known` is given, values that are not in it are left out."""
    values = st.query_params.get(name, "").split(",")
    return [value for value in dict.fromkeys(values) if value and (known is None or value in known)]


def choose(**values: str | Iterable[str]) -> None:
    """Write choices to the page's address. An empty value removes the parameter."""
    for name, value in values.items():
        text = value if isinstance(value, str) else ",".join(value)
        if text:
            st.query_params[name] = text
        else:
            st.query_params.pop(name, None)


def selectbox(where: DeltaGenerator, label: str, options: Mapping[str, str], *, name: str, key: str, help: str | None = None,
              also: Callable[[], None] | None = None) -> str:
    """Show a select box that keeps its choice in the page's address, and return the choice.

    Args:
        where, label, help: container, label and tooltip of the box.
        options: {value in the page's address: text in the box}, with at least one entry. The first entry is the default.
        name: name of the query parameter.
        key: key of the box in the session's state.
        also: function called after a choice. It can, for example, remove choices that depended on the previous choice.
    """
    st.session_state[key] = chosen(name, options, next(iter(options)))

    def store() -> None:
        choose(**{name: st.session_state[key]})
        if also is not None:
            also()

    where.selectbox(label, list(options), format_func=options.__getitem__, key=key, help=help, on_change=store)
    return str(st.session_state[key])


def segmented(label: str, options: Mapping[str, str], *, name: str, key: str, label_visibility: LabelVisibility = "visible",
              help: str | None = None) -> str:
    """Show a row of buttons that keeps its choice in the page's address, and return the choice.

    Args:
        label, label_visibility, help: label and tooltip of the row.
        options: {value in the page's address: text on the button}, with at least one entry. The first entry is the default.
        name: name of the query parameter.
        key: key of the row in the session's state.
    """
    st.session_state[key] = chosen(name, options, next(iter(options)))
    st.segmented_control(label, list(options), format_func=options.__getitem__, key=key, required=True, help=help,
                         label_visibility=label_visibility, on_change=lambda: choose(**{name: st.session_state[key]}))
    return str(st.session_state[key])


def open_tab(options: Mapping[str, str], *, name: str, key: str) -> tuple[str, DeltaGenerator]:
    """Show a row of tabs, and keep the open tab in the page's address. Only the open tab's content needs to be drawn.

    Args:
        options: {value in the page's address: text on the tab}, with at least one entry. The first entry is the default.
        name: name of the query parameter.
        key: key of the row in the session's state.

    Returns:
        The value of the open tab.
        The container of its content.
    """
    value = chosen(name, options, next(iter(options)))
    st.session_state[key] = options[value]
    values = {text: one for one, text in options.items()}
    containers = st.tabs(list(options.values()), key=key, on_change=lambda: choose(**{name: values[st.session_state[key]]}))
    return value, containers[list(options).index(value)]


def number(where: DeltaGenerator, label: str, *, name: str, key: str, default: int, least: int, most: int,
           help: str | None = None) -> int:
    """Show a field for a whole number that keeps its value in the page's address, and return the value.

    Args:
        where, label, help: container, label and tooltip of the field.
        name: name of the query parameter. Text that is not a number in `least`..`most` counts as absent.
        key: key of the field in the session's state.
        default: value until the reader chooses one.
        least, most: smallest and largest value.
    """
    text = st.query_params.get(name, "")
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
    st.session_state[key] = value if least <= value <= most else default
    where.number_input(label, least, most, key=key, help=help, on_change=lambda: choose(**{name: str(st.session_state[key])}))
    return int(st.session_state[key])
