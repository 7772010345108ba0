"""The controls at the top of the Launch page, and their place in the page's address.

The page's address holds every control and every changed setting, so that a reload or a copied address opens the same page. If
the page did not write its address itself, the address fills the page once. After that, the page updates its address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.components.method_choice import choose_method
from app.components.settings import paper_words
from app.components.source import Source, attack_source, choose_genotype, choose_network, genotype_source
from app.components.states import problem
from app.launching import GRID, START, Draft, draft_of, from_address, to_address
from app.theme import KIND_TITLES
from engine.architecture.genotype import DERIVED
from engine.config import PRESETS
from engine.config.run import KINDS
from engine.configuration_file import Configuration
from engine.configuring import build, differences_from_paper
from engine.data.catalogue import DATASETS
from engine.run.chain import kinds_after

KIND_TEXTS = {
    "search": "Search for the cells of a network that is accurate and hard to attack.",
    "retrain": "Train a network from scratch on attacked images: a derived network, or a baseline.",
    "attack": "Measure a retrained network on the test split: natural accuracy, and accuracy under each attack.",
}
THEN_TITLES = {(): "Nothing more", ("retrain",): "Retrain", ("attack",): "Attack", ("retrain", "attack"): "Retrain and attack"}
FILLED, WRITTEN = "launch.filled", "launch.written"  # in the session: how the page was filled, and the addresses that it wrote
OPEN = "launch.open"  # in the session: kinds of the runs whose settings are unfolded
MOST_WRITTEN = 50


@dataclass(frozen=True)
class Choice:
    """The values of the controls at the top of the page. Together with the settings on the forms, they define a run.

    Attributes:
        kind: kind of the run: "search", "retrain" or "attack".
        method: name of the search method; None for other kinds of run.
        dataset: name of the dataset.
        preset: name of the preset.
        then: kinds of the runs to launch afterwards, in order, for example ("retrain", "attack").
        source: genotype or network for a retraining or attack.
    """

    kind: str
    method: str | None
    dataset: str
    preset: str
    then: tuple[str, ...]
    source: Source

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of all runs of the chain, in order."""
        return (self.kind, *self.then)

    def form_key(self, kind: str) -> str:
        """Return the prefix of the widget keys of the form for runs of this kind.

        The prefix changes with the choice and with each call of `fill`, so that the form then shows its new initial values.
        """
        method = self.method if kind == "search" else None
        return ".".join(("launch", kind, method or "", self.dataset, self.preset, str(filled()["number"])))


def filled() -> dict[str, Any]:
    """Return what the session holds about the last call of `fill`, which set all controls of the page.

    Returns:
        A dict with three entries: "number", the number of earlier calls in this session; "draft", the draft that filled the page;
            and "problems", the sentences about wrong values.
    """
    state: dict[str, Any] = st.session_state[FILLED]
    return state


def open_address() -> None:
    """Fill the page from its address, unless the page wrote the address itself.

    If the page's address has no parameters, the page keeps the content that the session holds. A new session begins with `START`.
    """
    address = {name: value for name, value in st.query_params.to_dict().items() if isinstance(value, str)}
    known = FILLED in st.session_state
    if address and _signature(address) not in st.session_state.get(WRITTEN, ()):
        fill(*from_address(address, session.runs_root()))
    elif not known:
        fill(draft_of(START))


def write_address(draft: Draft) -> None:
    """Put a draft (the values of all controls and changed settings) in the page's address.

    The session remembers the address, so that `open_address` recognises it as written by the page itself.
    """
    address = to_address(draft)
    if address != st.query_params.to_dict():
        st.query_params.from_dict(address)
    # A rerun can still bring an earlier address of this page, so several are remembered.
    written = [one for one in st.session_state.get(WRITTEN, []) if one != _signature(address)]
    st.session_state[WRITTEN] = [*written, _signature(address)][-MOST_WRITTEN:]


def _signature(address: dict[str, str]) -> str:
    return repr(sorted(address.items()))


def fill(draft: Draft, problems: Sequence[str] = ()) -> None:
    """Set all controls of the page to the values of a draft, and replace the forms by new forms with the draft's settings.

    Args:
        draft: content of the controls.
        problems: sentences about wrong values, which the page shows until the user changes something.
    """
    state = st.session_state
    number = state[FILLED]["number"] + 1 if FILLED in state else 0
    changes = dict(draft.changes)
    genotype, network = changes.pop("genotype", None), changes.pop("network", DERIVED)
    if draft.kind == "retrain":
        state.pop("launch.source", None)
        if genotype and not draft.parent:
            choose_genotype(str(genotype))
        choose_network(str(network))
    state[FILLED] = {"number": number, "draft": replace(draft, changes=changes), "problems": list(problems)}
    state["launch.kind"], state["launch.dataset"], state["launch.preset"] = draft.kind, draft.dataset, draft.preset
    state[f"launch.then.{draft.kind}"] = draft.then
    state["launch.method"] = draft.method or START.method
    state["launch.methods"], state["launch.seeds"], state["launch.find"] = list(draft.methods), draft.seeds, draft.find
    state["launch.vary"] = list(draft.axes)
    for name, text in draft.axes.items():
        state[f"launch.{GRID}{name}"] = text
    state[OPEN] = set(KINDS if draft.find else draft.open)


def address_problems() -> None:
    """Show the sentences about wrong values that the page's address had when the page was opened."""
    if problems := filled()["problems"]:
        problem(" ".join(problems), link=None)


def choose(runs: pd.DataFrame) -> Choice:
    """Show the controls at the top of the page and return their values.

    Args:
        runs: table of all runs, from `RunLog.runs`.
    """
    # The preset `smoke` is meant for the project's own tests, so it is offered only if the address names it.
    presets = [name for name in PRESETS if name != "smoke" or st.session_state["launch.preset"] == "smoke"]
    kind = st.segmented_control("Kind of run", KINDS, format_func=KIND_TITLES.__getitem__, key="launch.kind", required=True,
                                label_visibility="collapsed", persist_state="session")
    assert kind is not None  # the control requires a value, and `fill` has set one
    st.caption(KIND_TEXTS[kind])
    source, method = Source(), None
    draft: Draft = filled()["draft"]
    if kind == "search":
        method = choose_method()
    elif kind == "retrain":
        source = genotype_source(runs, draft.parent or None, draft.candidate or None, named_too=True)
    else:
        source = attack_source(runs, draft.parent or None)
    left, right = st.columns(2)
    dataset = left.selectbox("Dataset", list(DATASETS), format_func=lambda name: DATASETS[name].title, key="launch.dataset",
                             help="\n\n".join(entry.description for _, entry in DATASETS.items()), persist_state="session")
    about = st.container()
    then = _choose_then(kind)
    words = PRESETS | {"paper": _paper_words((kind, *then), method, dataset)}
    preset = right.segmented_control("Preset", presets, key="launch.preset", required=True, persist_state="session",
                                     help="\n\n".join(f"`{name}`: {words[name]}" for name in presets))
    assert preset is not None
    about.markdown(f"{':material/science: ' if preset == 'quick' else ''}**{preset}**: {words[preset]}")
    return Choice(kind, method, dataset, preset, then, source)


def _choose_then(kind: str) -> tuple[str, ...]:
    """Show the control for the runs that follow a run of this kind, and return their kinds."""
    after = kinds_after(kind)
    if not after:
        return ()
    options = [after[:length] for length in range(len(after), -1, -1)]
    key = f"launch.then.{kind}"
    st.session_state.setdefault(key, after if kind == START.kind else ())
    then = st.segmented_control("Then", options, format_func=THEN_TITLES.__getitem__, key=key, required=True,
                                persist_state="session", help="Runs that start one after another when this run has finished.")
    return tuple(then or ())


def _paper_words(kinds: Sequence[str], method: str | None, dataset: str) -> str:
    """Return a description of the preset `paper` for a chain of runs with the given kinds."""
    chain = [build(kind, method, dataset, "paper") for kind in kinds]
    return paper_words(kinds[0], method, dataset, sum(len(differences_from_paper(config)) for config in chain))


def import_configuration(configuration: Configuration) -> None:
    """Set all controls of the page to the values in a configuration file."""
    fill(draft_of(configuration, open=tuple(kind for kind in KINDS if kind in st.session_state[OPEN])))
