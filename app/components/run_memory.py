"""The offer on the page of a run that ran out of memory: the same run with half the batch size."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import session
from app.components.states import LAUNCH_PAGE, page_link
from engine.configuring import config_class
from engine.search.methods.registry import METHODS

OUT_OF_MEMORY = "out of memory"


def ran_out_of_memory(why: str) -> bool:
    """Return True if `why`, the reason why a run failed, says that memory ran out."""
    return OUT_OF_MEMORY in why.lower()


def batch_size(run: dict[str, Any]) -> tuple[int, bool]:
    """Return (batch size of a run, True if half of it is a valid setting), or (0, False) if the batch size is unknown."""
    size = session.run_log().run(run["id"])["config"].get("batch_size")
    method = run["method"] if run["kind"] == "search" else None
    if not isinstance(size, int) or (method and method not in METHODS):
        return 0, False
    field = config_class(run["kind"], method).model_fields["batch_size"]
    return size, size // 2 >= max((bound.ge for bound in field.metadata if hasattr(bound, "ge")), default=1)


def offer_half_batch(run: dict[str, Any]) -> None:
    """Show a link to Launch with the settings of a run and half its batch size, and explain what Resume would do instead."""
    size, can_halve = batch_size(run)
    resumes = "Resume repeats the step that did not fit, so it helps only if more memory is free now."
    if not can_halve:
        st.html(f'<p class="rp-note">{resumes}</p>')
        return
    with st.container(horizontal=True, vertical_alignment="center", key="rp-half-batch"):
        page_link(LAUNCH_PAGE, "Clone with half the batch", **{"from": str(run["id"]), "batch_size": str(size // 2)})
        st.html(f'<p class="rp-note">{size // 2} images per batch instead of {size}. {resumes}</p>')
