"""The form on the Robustness page that launches an attack on another network.

The attack uses the protocol of the table on the page, that is, the same images and the same attacks with the same settings.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pandas as pd
import streamlit as st

from app import address, session
from app.components.act_button import act_button
from app.formats import markdown
from engine import requests
from engine.configuring import recorded, split_seed_of
from engine.errors import RampartError
from engine.report.robustness import RobustnessTable
from engine.run.folder import RunFolder

# Settings that say where a run computes. The new run takes the usual ones.
OF_MACHINE = ("device", "threads")


def attack_more(table: RobustnessTable, runs: pd.DataFrame) -> None:
    """Show a form that launches an attack on another network. It offers the retrained networks that are not in the table yet.

    Args:
        table: table whose protocol the new attack run uses.
        runs: table of all runs, from `RunLog.runs`.
    """
    example = RunFolder(session.runs_root(), table.rows[0].run).read_run()
    attacked = {row.parent for row in table.rows}
    finished = runs[(runs["kind"] == "retrain") & (runs["status"] == "finished") & (runs["dataset"] == table.dataset)]
    titles = {str(run): str(title) for run, title in zip(finished["id"], finished["title"], strict=True) if run not in attacked}
    with st.expander("Attack another network under this protocol", icon=":material/target:",
                     expanded=address.chosen("network", titles) != ""):
        if not titles:
            st.caption("Every network that was retrained on this dataset is in the table. A new retraining appears here when it "
                       "has finished.")
            return
        options = {run: f"{title} · {run}" for run, title in titles.items()}
        network = address.selectbox(st.container(), "Retrained network", options, name="network", key="robustness.network")
        parent = RunFolder(session.runs_root(), network).read_run()
        if split_seed_of(parent) != split_seed_of(example):
            st.caption("This network was trained on other splits. Its test images differ, so it gets a protocol of its own.")
        if act_button("Attack", type="primary", icon=":material/bolt:", key="attack_more.go"):
            _launch(example, parent)


def settings_under(example: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an attack run that determine its protocol, for use in another attack run.

    The split seed is left out, because every attack run takes it from the retraining that it attacks.

    Args:
        example: run.json of the attack run.
    """
    config = recorded(example)
    left_out = {*OF_MACHINE, "split_seed", "against"} | config.inert()
    return {name: value for name, value in config.model_dump().items() if name not in left_out}


def _launch(example: dict[str, Any], parent: dict[str, Any]) -> None:
    token = st.session_state.setdefault("attack_more.token", uuid4().hex)
    try:
        (run,) = requests.submit(session.runs_root(), "attack", settings_under(example), preset=str(example["preset"]),
                                 parent=str(parent["id"]), key=token)
    except RampartError as refusal:
        st.markdown(f":red[:material/error:] {markdown(refusal)}")
        return
    del st.session_state["attack_more.token"]
    session.hub().refresh()
    st.toast(f"{run} is queued. Its results appear in the table as they come in.")
    st.rerun(scope="fragment")
