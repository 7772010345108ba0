"""Datasets on the Launch page: the published dataset for the preset `paper`, and a button that fetches a missing dataset."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.launch_choice import Choice
from app.formats import duration, markdown
from app.measuring import Task
from engine.acts import act, named
from engine.data import fetching
from engine.data.catalogue import DATASETS, image_source
from engine.data.dataset import Dataset
from engine.data.prepared import absence

PUBLISHED = "cifar10"  # the dataset of the published settings
TASK = "launch.fetching"  # in the session: (title of the dataset, task that fetches it)


def published_dataset(choice: Choice) -> None:
    """Show a button that switches to CIFAR-10, if the preset is `paper` and no paper used the chosen dataset."""
    if choice.preset == "paper" and not DATASETS[choice.dataset].published:
        st.button(f"Use {DATASETS[PUBLISHED].title}, the dataset of the papers", key="launch.published", on_click=_choose,
                  icon=":material/swap_horiz:")


def _choose() -> None:
    st.session_state["launch.dataset"] = PUBLISHED


def fetch_missing(names: tuple[str, ...]) -> None:
    """Show a button for each missing dataset, which fetches the dataset. During a fetch, show only its progress.

    Args:
        names: names of the datasets that the launch reads.
    """
    held: tuple[str, Task] | None = st.session_state.get(TASK)
    if held is not None and held[1].running:
        _progress()
        return
    if held is not None and held[1].problem:
        st.caption(f":material/error: {held[0]} was not fetched. {markdown(held[1].problem)}")
    for data in map(image_source, names):
        if data.sources and absence(data):
            size = sum(source.bytes for source in data.sources)
            act_button(f"Fetch {data.title} ({size / 1e6:.0f} MB)", key=f"launch.fetch.{data.name}", on_click=_fetch,
                       args=(data,), icon=":material/download:", help="Downloads the official files, checks them and prepares "
                       "the images. You can leave the page meanwhile.")


def _fetch(data: Dataset) -> None:
    _begin(session.runs_root(), data.name, data.title)


@act("fetch dataset", named("name"))
def _begin(runs: Path, name: str, title: str) -> None:
    """Begin to fetch a dataset in the background. The act is recorded in the audit of the folder `runs`."""
    st.session_state[TASK] = (title, Task(lambda report: fetching.fetch(name, progress=report)))


@st.fragment(run_every=1.0)
def _progress() -> None:
    """Show the progress of the fetch. Redraw the page when the fetch has ended."""
    title, task = st.session_state[TASK]
    if not task.running:
        st.rerun()
    share = task.done / task.total if task.total else 0.0
    amount = (f"{task.done:,} of {task.total:,} images prepared" if task.what == "preparing" else
              f"{task.done / 1e6:.0f} of {task.total / 1e6:.0f} MB of {task.what}" if task.total else "connecting")
    st.progress(min(1.0, share), text=f"Fetching {title}: {amount}, {duration(task.seconds)}")
    st.button("Stop", key="launch.fetch.stop", on_click=task.stop)
