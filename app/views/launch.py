"""Launch: choose what to run, see what differs from the paper and the exact command, and start it with one click."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pandas as pd
import streamlit as st

from app import session
from app.components import preflight
from app.components.cell_graph import drawing, genotype_graphs
from app.components.form import FormValues, check, config_form
from app.components.formats import count
from app.components.method_choice import choose_method
from app.components.placement_picture import rule_figure, rules_figures
from app.components.settings import differences_html, is_published
from app.components.source import Source, attack_source, choose_hand_made, genotype_source
from app.components.states import RUN_PAGE, heading, problem, section
from app.theme import KIND_TITLES
from engine import requests
from engine.architecture.cost import Cost, cost
from engine.architecture.hand_made import DERIVED
from engine.architecture.transplant import read_grafts, transplant
from engine.config import PRESETS, RetrainConfig, RunConfig, network_values
from engine.config.run import KINDS
from engine.configuring import build, config_class, differences_from_paper, preset_values, validate
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.errors import ConfigError, RampartError
from engine.run.lineage import arrangement_of
from engine.run.matching import matched
from engine.search.methods.registry import METHODS

KIND_TEXTS = {
    "search": "Finds the cells of a network that is accurate and hard to attack.",
    "retrain": "Trains a network from scratch, against an attack: what a search found, a published one, or a hand-made one.",
    "attack": "Measures a retrained network on the test split: natural, FGSM, PGD-20, AutoAttack.",
}
THEN = ("retrain", "attack")
PLACED = ("channels", "layers", "placement", "width_ratio")  # the settings that the picture of the network shows
PUBLISHED = {"search": "search", "retrain": "retraining", "attack": "attacks"}


@dataclass(frozen=True)
class Choice:
    """The controls at the top of the page: what to run, before any setting is touched."""

    kind: str
    method: str | None
    dataset: str
    preset: str
    then: tuple[str, ...]
    source: Source

    @property
    def form_key(self) -> str:
        """Fields of another choice, or of an imported file, start anew."""
        parts = ("launch", self.kind, self.method or "", self.dataset, self.preset, str(_imported()["number"]))
        return ".".join(parts)


def _imported() -> dict[str, Any]:
    return st.session_state.setdefault("launch.imported", {"number": 0, "changes": {}})


def choose(runs: pd.DataFrame) -> Choice:
    """Draws the controls. The address may preset them: ?kind=retrain&parent=ID&candidate=3, ?preset=scout."""
    asked = st.query_params
    _start("launch.kind", asked.get("kind"), KINDS, "search")
    _start("launch.preset", asked.get("preset"), PRESETS, "quick")
    # `smoke` is for the project's own tests: offered only to who asks for it by name.
    presets = [name for name in PRESETS if name != "smoke" or st.session_state["launch.preset"] == "smoke"]
    kind = st.segmented_control("Kind of run", KINDS, format_func=KIND_TITLES.get, key="launch.kind", required=True,
                                label_visibility="collapsed", persist_state="session")
    st.caption(KIND_TEXTS[kind])
    source, method = Source(), None
    if kind == "search":
        method = choose_method()
    elif kind == "retrain":
        source = genotype_source(runs, asked.get("parent"), asked.get("candidate"), hand_made_too=True)
    else:
        source = attack_source(runs, asked.get("parent"))
    left, right = st.columns(2)
    dataset = left.selectbox("Dataset", list(DATASETS), format_func=lambda name: DATASETS[name].title, key="launch.dataset",
                             help="\n\n".join(entry.description for _, entry in DATASETS.items()), persist_state="session")
    preset = right.segmented_control("Preset", presets, key="launch.preset", required=True, persist_state="session",
                                     help="\n\n".join(f"`{name}`: {PRESETS[name]}" for name in presets))
    words = PRESETS[preset]
    if preset == "paper" and not is_published(kind, method):
        words = "Our defaults: no paper fixes those of this method."
    st.markdown(f"{':material/science: ' if preset == 'quick' else ''}**{preset}**: {words}")
    then: tuple[str, ...] = ()
    if kind == "search" and st.checkbox("Then retrain and attack what it finds", value=True, key="launch.then",
                                        persist_state="session"):
        then = THEN
    return Choice(kind, method, dataset, preset, then, source)


def _start(key: str, asked: str | None, known: Any, default: str) -> None:
    """First value of a control: what the address asks for, if it is known. Asked once, so that it can be changed."""
    if asked in known and st.session_state.get(f"{key}.asked") != asked:
        st.session_state[f"{key}.asked"] = st.session_state[key] = asked
    st.session_state.setdefault(key, default)


def steps_of(choice: Choice, values: FormValues) -> list[tuple[str, RunConfig]]:
    """(kind, configuration) of every run that one click starts; the first is the one on the form."""
    if values.config is None:
        return []
    shared = {name: getattr(values.config, name) for name in requests.INHERITED}
    followers = [(kind, build(kind, None, choice.dataset, choice.preset, shared)) for kind in choice.then]
    return [(choice.kind, values.config), *followers]


def launch(choice: Choice, values: FormValues) -> str:
    """Hands the runs in and returns the first one's id. A second click on the same view gives the same runs.

    Raises:
        RampartError: the request was refused.
    """
    steps = steps_of(choice, values)
    token = st.session_state.setdefault("launch.token", uuid4().hex)
    ids = requests.submit(session.runs_root(), choice.kind, steps[0][1], method=choice.method, preset=choice.preset,
                          parent=choice.source.parent, then=choice.then, key=token)
    st.session_state["launch.used"] = token
    session.hub().refresh()  # so that the page of the run, which comes next, knows it
    return ids[0]


def new_token_after_use() -> None:
    """The page is drawn again without a click: whatever was launched before was another decision."""
    if "launch.used" in st.session_state:
        del st.session_state["launch.used"], st.session_state["launch.token"]


def button(choice: Choice, values: FormValues) -> None:
    """Launch, or why not. On success the page changes to the run."""
    reasons = [choice.source.problem] if choice.source.problem else []
    reasons += list(values.problems.values())
    read = values.config.datasets() if values.config else (choice.dataset,)
    reasons += [missing for name in read if (missing := absence(image_source(name)))]
    clicked = st.button("Launch", type="primary", icon=":material/rocket_launch:", key="launch.go", disabled=bool(reasons),
                        width="stretch")
    if reasons:
        st.markdown(":red[:material/block: Launch waits for this:]")
        for reason in reasons:
            st.text(reason)
        new_token_after_use()
        return
    if not clicked:
        new_token_after_use()
        return
    try:
        run = launch(choice, values)
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return
    st.switch_page(RUN_PAGE, query_params={"id": run})


def differences(choice: Choice, values: FormValues) -> None:
    """What is not as published, every setting with both values."""
    found = [(kind, differences_from_paper(config)) for kind, config in steps_of(choice, values)]
    shown = [(kind, rows) for kind, rows in found if rows]
    if not shown:
        of = "published one" if is_published(choice.kind, choice.method) else "default"
        st.markdown(f"Nothing: every setting is the {of}." if values.config else
                    "Known as soon as every setting is valid.")
        return
    published = f"{METHODS[choice.method].title} as published" if choice.method else f"the published {PUBLISHED[choice.kind]}"
    if not is_published(choice.kind, choice.method):
        published = "our defaults: no paper fixes those of this method"
    number = sum(len(rows) for _, rows in shown)
    st.markdown(f"**{number} setting{'s differ' if number != 1 else ' differs'} from `paper`** ({published}). "
                "Epsilon and step size are in pixel space, 0 to 1.")
    for column, (kind, rows) in zip(st.columns(max(2, len(shown)), gap="large"), shown):
        reference = "Paper" if is_published(kind, choice.method) else "Default"
        column.html(differences_html(kind, choice.method, rows, (KIND_TITLES[kind], "Here", reference)))


def exchange(choice: Choice, values: FormValues) -> None:
    """The configuration as one JSON file, out and in."""
    record = {"kind": choice.kind, "method": choice.method, "dataset": choice.dataset, "preset": choice.preset,
              "then": list(choice.then), "changes": {**choice.source.changes, **values.changes}}
    left, right = st.columns(2)
    left.markdown("**Export.** Kind, method, dataset, preset and every setting changed on this page.")
    left.download_button("Download configuration", json.dumps(record, indent=2) + "\n", "rampart-config.json",
                         "application/json", icon=":material/download:", disabled=values.config is None)
    file = right.file_uploader("Import a configuration (JSON)", type="json", max_upload_size=1,
                               key=f"launch.file.{_imported()['number']}")
    if file is not None:
        right.button("Use it", key="launch.use", on_click=_import, args=(file.getvalue(),))
    if problem := st.session_state.pop("launch.import_problem", None):
        right.error(problem)


def _import(content: bytes) -> None:
    """Sets every control to what the file says, or leaves all of them and says why."""
    try:
        record = json.loads(content)
        kind, method, dataset, preset = (record[name] for name in ("kind", "method", "dataset", "preset"))
        changes = dict(record["changes"])
        build(kind, method, dataset, preset, changes)
    except ConfigError as refusal:
        st.session_state["launch.import_problem"] = str(refusal)
        return
    except (ValueError, TypeError, KeyError):
        st.session_state["launch.import_problem"] = ("This file is not a configuration of Rampart: expected JSON with kind, "
                                                     "method, dataset, preset and changes. Export one to see its form.")
        return
    genotype = changes.pop("genotype", None)
    if genotype:
        st.session_state["launch.source"], st.session_state["launch.pasted"] = "paste", genotype
    choose_hand_made(changes.pop("network", DERIVED))
    st.session_state["launch.imported"] = {"number": _imported()["number"] + 1, "changes": changes}
    st.session_state["launch.kind"], st.session_state["launch.dataset"] = kind, dataset
    st.session_state["launch.preset"], st.session_state["launch.then"] = preset, bool(record.get("then"))
    if method:
        st.session_state["launch.method"] = method


def validated(choice: Choice, values: FormValues) -> FormValues:
    """The form's values together with the genotype or network that was chosen beside it."""
    if not choice.source.changes or values.config is None:
        return values
    cls, preset = config_class(choice.kind, choice.method), preset_values(choice.kind, choice.method, choice.dataset,
                                                                          choice.preset)
    preset |= network_values(choice.source.changes.get("network", DERIVED))
    return check(choice.kind, cls, preset, {**values.changes, **choice.source.changes})


def size_text(found: Cost) -> str:
    """Parameters and MACs in words."""
    return f"{count(found.parameters)} parameters and {count(found.macs)} multiply-accumulates per image"


def network(choice: Choice, values: FormValues) -> None:
    """The network that a chosen genotype makes at the sizes on the form, or the size of a hand-made one."""
    genotype, data = choice.source.genotype, DATASETS[choice.dataset]
    if choice.source.hand_made is not None:
        section(choice.source.hand_made.title, size_text(choice.source.hand_made.cost(data.classes, data.image_shape)))
    if genotype is None:
        return
    config = values.config
    size = ""
    if isinstance(config, RetrainConfig):
        runs, parent = session.runs_root(), choice.source.parent
        try:
            genotype = transplant(genotype, read_grafts(config.transplant))
            config, _ = matched(runs, config, parent)
            found = cost(genotype, channels=config.channels, layers=config.layers, classes=data.classes,
                         image_shape=data.image_shape, **arrangement_of(runs, config, parent, genotype))
        except RampartError as refusal:
            problem(str(refusal), link=None)
            return
        size = f"{size_text(found)} at {config.channels} channels and {config.layers} cells, without auxiliary head"
    section("The network", size)
    genotype_graphs(genotype, key="launch.genotype")


def command(choice: Choice, values: FormValues) -> None:
    """The line that asks for exactly what the button asks for."""
    st.markdown("###### The same by command")
    if values.config is None or choice.source.problem:
        st.caption("Known as soon as every setting is valid.")
        return
    line = requests.command_of(choice.kind, choice.method, choice.preset, choice.dataset,
                               {**choice.source.changes, **values.changes}, choice.then, choice.source.parent,
                               session.runs_root())
    st.code(line, language="bash", wrap_lines=True)
    st.caption("Run it in Rampart's folder.")


def places(choice: Choice, preset: Mapping[str, Any], values: FormValues) -> None:
    """The network of the form as a strip of cells, with the name and the sentence of its position rule, and all other rules."""
    own = {name: values.changes[name] for name in PLACED if name in values.changes}
    runs, kinds = session.runs_root(), None
    try:
        config = values.config or validate(config_class(choice.kind, choice.method), {**preset, **own})
        arrangement = {name: getattr(config, name) for name in ("placement", "width_ratio")}
        if isinstance(config, RetrainConfig):
            if choice.source.genotype is None:
                return
            config = validate(RetrainConfig, {**config.model_dump(), **choice.source.changes})
            kinds = choice.source.genotype.kinds
            arrangement = arrangement_of(runs, config, choice.source.parent, choice.source.genotype)
            config, _ = matched(runs, config, choice.source.parent)
    except RampartError:  # said below its field, or where the network's size stands
        return
    sizes = {"width_ratio": arrangement["width_ratio"], "channels": config.channels, "layers": config.layers,
             "image_shape": DATASETS[choice.dataset].image_shape}
    drawing(rule_figure(arrangement["placement"], **sizes), key="launch.placement")
    with st.expander("Every position rule at these widths"):
        drawing(rules_figures(kinds, **sizes), key="launch.placements")


runs = session.run_log().runs()
heading("Launch", "A run is a process of its own: closing this page does not end it.")
controls, facts = st.columns([3, 2], gap="large")
with controls:
    choice = choose(runs)
    action = st.container()
picture = st.container()
differences_tab, settings_tab, exchange_tab = st.tabs(["Differs from the paper", "Advanced settings", "Import and export"])
with settings_tab:
    follow = " The retraining and the attack that follow take the same preset, seed, device and threads." if choice.then else ""
    st.caption("Meaning, range and source of each setting are behind its question mark. Pixel values may be typed as 8/255. "
               f"Where a value is not the published one, that one stands below it.{follow}")
    preset_now = preset_values(choice.kind, choice.method, choice.dataset, choice.preset)
    values = validated(choice, config_form(choice.kind, config_class(choice.kind, choice.method), preset_now, key=choice.form_key,
                                           start=_imported()["changes"],
                                           below={"width_ratio": lambda held: places(choice, preset_now, held)}))
with picture:
    command(choice, values)
    network(choice, values)
with differences_tab:
    differences(choice, values)
with exchange_tab:
    exchange(choice, values)
with action:
    button(choice, values)
with facts, st.container(border=True):
    st.markdown("###### Before the launch")
    reference = values.config or build(choice.kind, choice.method, choice.dataset, choice.preset)
    statuses = [] if runs.empty else list(runs["status"])
    preflight.draw(preflight.facts(reference, session.runs_root(), statuses.count("running"), statuses.count("queued")))
