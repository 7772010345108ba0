"""The Launch page, on which the user configures and launches a run, the runs that follow it, and grids of such chains.

It also shows how the settings differ from the paper, and the command that starts the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import streamlit as st

from app import session
from app.components import launch_details as details
from app.components import launch_forecast, preflight
from app.components.form import FormValues
from app.components.launch_choice import OPEN, Choice, address_problems, choose, filled, open_address, write_address
from app.components.launch_dataset import fetch_missing, published_dataset
from app.components.launch_forecast import time_words
from app.components.launch_grid import Repetition, choose_repetition, configuration_of, launch_label, size_words
from app.components.launch_origin import origin
from app.components.launch_steps import folds, forms_of, reasons_of
from app.components.live import expect_launch
from app.components.queue_note import paused_note
from app.components.states import RUN_PAGE, RUNS_PAGE, heading, problem, small_heading
from app.formats import markdown
from app.launching import Draft
from engine import requests
from engine.acts import why_not
from engine.config.run import KINDS
from engine.configuring import build, preset_values
from engine.data.catalogue import image_source
from engine.data.prepared import absence
from engine.errors import ConfigError, RampartError
from engine.grid import Variant, launches_of
from engine.preflight.forecast import Forecast

Forms = Mapping[str, FormValues]


def launch(choice: Choice, forms: Forms, repetition: Repetition) -> list[list[str]]:
    """Submit all chains, and return the run ids of each chain.

    If the user clicks a second time before the page has been redrawn, start nothing and return the same ids.

    Raises:
        RampartError: a chain cannot be launched, so none has been.
    """
    token = st.session_state.setdefault("launch.token", uuid4().hex)
    launches = launches_of(configuration_of(choice, forms), repetition.grid, choice.source.parent)
    chains = requests.submit_all(session.runs_root(), launches, token)
    st.session_state["launch.used"] = token
    session.hub().refresh()  # so that the run's page, which is opened next, finds the run
    return chains


def start_supervisor() -> None:
    """Start the supervisor (the process that starts runs) before the launch, so that it is ready when the runs are launched."""
    with suppress(OSError):  # a folder that is not writable is reported when the runs are written
        requests.ensure_supervisor(session.runs_root())


def new_token_after_use() -> None:
    """Discard the token of the last launch, so that the next click starts new runs.

    Repeated clicks with the same token launch the runs only once. Call this function when the page is drawn without a click.
    """
    if "launch.used" in st.session_state:
        del st.session_state["launch.used"], st.session_state["launch.token"]


def button(choice: Choice, forms: Forms, repetition: Repetition, expected: list[Forecast]) -> None:
    """Show the Launch button and the size of the launch. A click launches the runs, and opens the first run or the Runs page.

    If the button is disabled, the reasons are shown.
    """
    config = forms[choice.kind].config
    reasons = [*filter(None, [why_not("runner"), repetition.problem]), *reasons_of(choice, forms)]
    read = config.datasets() if config else (choice.dataset,)
    reasons += [missing for name in read if (missing := absence(image_source(name)))]
    clicked = st.button(launch_label(repetition.grid, len(choice.kinds)), type="primary", icon=":material/rocket_launch:",
                        key="launch.go", disabled=bool(reasons), width="stretch", on_click=start_supervisor)
    if words := ", ".join(filter(None, (size_words(choice, repetition.grid), time_words(expected)))):
        st.caption(markdown(words))
    fetch_missing(read)
    if reasons:
        st.markdown(":red[:material/block: Before you can launch:]")
        for reason in reasons:
            st.text(reason)
    if reasons or not clicked:
        new_token_after_use()
        return
    try:
        chains = launch(choice, forms, repetition)
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    if len(chains) > 1:
        st.switch_page(RUNS_PAGE)
    st.switch_page(RUN_PAGE, query_params={"id": chains[0][0]})


def draft_now(choice: Choice, forms: Forms, repetition: Repetition, find: str) -> Draft:
    """Return the current content of the page, which its address will hold."""
    now = configuration_of(choice, forms)
    changes = {name: value for name, value in now.changes.items() if not (name == "genotype" and choice.source.candidate)}
    return Draft(now.kind, now.method, now.dataset, now.preset, now.then, changes, now.then_changes,
                 parent=choice.source.parent or "", candidate=str(choice.source.candidate or ""), methods=repetition.methods,
                 seeds=repetition.seeds, axes=repetition.axes, find=find, origin=filled()["draft"].origin,
                 open=tuple(kind for kind in KINDS if kind in st.session_state[OPEN]))


def unfold_all() -> None:
    """Unfold all steps, because the user searches their settings."""
    if st.session_state["launch.find"]:
        st.session_state[OPEN] = set(KINDS)


def steps(choice: Choice, forms: Forms) -> str:
    """Show the forms of all steps below a search field, and return the words in the field."""
    title, field = st.columns([3, 2], vertical_alignment="bottom")
    title.html('<h2 class="rp-section">Settings</h2>')
    find = field.text_input("Find a setting", key="launch.find", live="400ms", persist_state="session", icon=":material/search:",
                            placeholder="Find a setting: name, meaning, paper", label_visibility="collapsed",
                            on_change=unfold_all)
    preset = preset_values(choice.kind, choice.method, choice.dataset, choice.preset)
    folds(choice, forms, find or "", {"width_ratio": lambda held: details.places(choice, preset, held)})
    follow = (" If you choose the seed, device, threads, epsilon, step size, normalisation or number of images, the later steps "
              "use the same value until you change it there." if choice.then else "")
    st.caption("Each question mark explains a setting: its meaning, range and source. You can type pixel values as 8/255. "
               f"The published or default value is shown below a changed one.{follow}")
    return find or ""


def facts(choice: Choice, forms: Forms, runs: Path, expected: list[Forecast]) -> None:
    """Show the facts that matter before the launch."""
    small_heading("Before the launch")
    reference = forms[choice.kind].config or build(choice.kind, choice.method, choice.dataset, choice.preset)
    statuses = [] if table.empty else list(table["status"])
    preflight.draw(preflight.facts(reference, runs, statuses.count("running"), statuses.count("queued")) +
                   launch_forecast.facts(expected))
    launch_forecast.chain_table(chains, expected)
    launch_forecast.measuring(choice, chains, expected)


open_address()
table = session.run_log().runs()
heading("Launch", "Runs continue when you close this page.")
paused_note()
address_problems()
controls, side = st.columns([3, 2], gap="large")
with controls:
    choice = choose(table)
    repeated = st.container()
    action = st.container()
forms = forms_of(choice)
with repeated:
    repetition = choose_repetition(choice, forms)
chains: list[Variant] = []
try:
    chains = launch_forecast.chains_of(choice, forms, repetition.grid)
except ConfigError as refusal:
    repetition = replace(repetition, problem=str(refusal))
expected = launch_forecast.forecasts(chains)
with side, st.container(border=True):
    facts(choice, forms, session.runs_root(), expected)
with action:
    published_dataset(choice)
    button(choice, forms, repetition, expected)
origin(choice, forms)
find = steps(choice, forms)
details.command(choice, forms, repetition)
details.network(choice, forms)
differences_tab, exchange_tab = st.tabs(["Differences from the paper", "Import and export"])
with differences_tab:
    details.differences(choice, forms)
with exchange_tab:
    details.exchange(choice, forms)
write_address(draft_now(choice, forms, repetition, find))
if first := forms[choice.kind].config:
    expect_launch(first.threads)
