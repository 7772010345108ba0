"""Seeds, methods and settings with several values: the controls of a grid on the Launch page, and its size in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st

from app.components.form import NOT_IN_FORM, FormValues, label_of, value_text
from app.components.launch_choice import Choice
from app.components.launch_steps import then_changes
from app.components.method_choice import in_order
from app.formats import plural
from app.launching import GRID
from app.theme import KIND_TITLES
from engine.configuration_file import Configuration
from engine.configuring import config_class
from engine.errors import ConfigError
from engine.grid import Grid, read_grid
from engine.search.methods.registry import METHODS


@dataclass(frozen=True)
class Repetition:
    """The seeds, methods and values of settings for which a chain is repeated, as set by the controls of the page.

    Attributes:
        grid: all values to combine, made from the other attributes. A grid without axes launches a single chain.
        seeds: the typed seeds, for example "0-4"; "" for the seed on the form.
        methods: names of further search methods, besides the method chosen at the top of the page.
        axes: {name of a setting: its typed values, separated by commas or semicolons}.
        problem: one sentence that says why the grid cannot be launched, or "".
    """

    grid: Grid = field(default_factory=lambda: Grid({}))
    seeds: str = ""
    methods: tuple[str, ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def configuration_of(choice: Choice, forms: Mapping[str, FormValues]) -> Configuration:
    """Return the configuration that the controls and forms of the page describe."""
    return Configuration(choice.kind, choice.method, choice.dataset, choice.preset, choice.then,
                         {**choice.source.changes, **forms[choice.kind].changes}, then_changes(choice, forms))


def choose_repetition(choice: Choice, forms: Mapping[str, FormValues]) -> Repetition:
    """Show the controls for seeds, further methods and settings with several values, and return their values."""
    widths = [1, 2, 2] if choice.kind == "search" else [1, 4]
    places = st.columns(widths)
    config = forms[choice.kind].config
    seeds = places[0].text_input("Seeds", key="launch.seeds", persist_state="session", live="400ms",
                                 placeholder=str(config.seed) if config else "2",
                                 help="One chain for each seed of the first step: 0-4, or 0, 3, 7. Empty: the seed in its "
                                      "settings.")
    methods: list[str] = []
    if choice.kind == "search":
        others = [name for name in in_order() if name != choice.method]
        st.session_state["launch.methods"] = [one for one in st.session_state.get("launch.methods", []) if one in others]
        methods = places[1].multiselect("Also by the methods", others, format_func=lambda name: METHODS[name].title,
                                        key="launch.methods", placeholder="Only the one above", persist_state="session",
                                        help="Each further method gets the settings that you have changed.")
    known = axis_titles(choice)
    st.session_state["launch.vary"] = [one for one in st.session_state.get("launch.vary", []) if one in known]
    varied = places[-1].multiselect("Settings with several values", list(known), format_func=known.__getitem__,
                                    key="launch.vary", placeholder="None", persist_state="session",
                                    help="Every combination of values is launched. Separate values by commas, or by semicolons "
                                         "if a value contains commas itself.")
    axes = {name: _values_field(place, choice, forms, name, known[name])
            for name, place in zip(varied, _cells(len(varied)))}
    return _repetition(configuration_of(choice, forms), seeds or "", tuple(methods), axes)


def _cells(number: int) -> list[st.delta_generator.DeltaGenerator]:
    """Return a container for each of `number` fields, three in a row."""
    return [column for row in range(0, number, 3) for column in st.columns(3)[:number - row]]


def _values_field(place: st.delta_generator.DeltaGenerator, choice: Choice, forms: Mapping[str, FormValues], name: str,
                  title: str) -> str:
    kind, _, setting = name.rpartition(".")
    config = forms[kind or choice.kind].config
    now = value_text(type(config).model_fields[setting], getattr(config, setting)) if config else ""
    typed = place.text_input(title, key=f"launch.{GRID}{name}", persist_state="session", live="400ms", placeholder=f"{now}, …")
    return typed or ""


def axis_titles(choice: Choice) -> dict[str, str]:
    """Return {name of an axis: title} for every setting of the chain that can have several values, except the seed."""
    titles = {}
    for kind in choice.kinds:
        cls = config_class(kind, choice.method if kind == "search" else None)
        for name in cls.model_fields:
            if name not in NOT_IN_FORM and (kind, name) != (choice.kind, "seed"):
                titles[name if kind == choice.kind else f"{kind}.{name}"] = f"{KIND_TITLES[kind]}: {label_of(name)}"
    return titles


def _repetition(base: Configuration, seeds: str, methods: tuple[str, ...], axes: Mapping[str, str]) -> Repetition:
    listed = [("method", ", ".join((str(base.method), *methods)))] if methods else []
    try:
        grid = read_grid(base, [*listed, *axes.items()], seeds)
    except ConfigError as refusal:
        return Repetition(Grid({}), seeds, methods, axes, str(refusal))
    return Repetition(grid, seeds, methods, axes)


def launch_label(grid: Grid, kinds: int) -> str:
    """Return the text of the launch button, for example "Launch 15 chains"."""
    return "Launch" if grid.chains == 1 else f"Launch {plural(grid.chains, 'chain' if kinds > 1 else 'run')}"


def size_words(choice: Choice, grid: Grid) -> str:
    """Return the size of a grid, for example "5 seeds × 3 methods = 15 chains, 45 runs"; "" for a single run."""
    runs = sum(grid.runs_of(choice.kinds).values())
    if grid.chains == 1:
        return plural(runs, "run") if runs > 1 else ""
    chains = plural(grid.chains, "chain" if len(choice.kinds) > 1 else "run")
    return f"{grid.words} = {chains}{f', {runs} runs' if len(choice.kinds) > 1 else ''}"
