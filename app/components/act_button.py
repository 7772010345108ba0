"""Buttons of acts (`engine.acts`). A user whose role does not include the act sees them disabled, with the reason as tooltip."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.acts import why_not


def act_button(label: str, *, role: str = "runner", disabled: bool = False, help: str | None = None, form: bool = False,
               **options: Any) -> bool:
    """Show a button, and return True if it was clicked.

    Args:
        label: text of the button.
        role: lowest role that may click it.
        disabled: True if the act is not possible now, whatever the role.
        help: tooltip.
        form: True to show the submit button of a form.
        options: further arguments of `st.button`.
    """
    reason = why_not(role)
    show = st.form_submit_button if form else st.button
    return show(label, disabled=disabled or bool(reason), help=reason or help, **options)
