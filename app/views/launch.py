"""The Launch page, on which the user configures and launches a run.

It also shows how the settings differ from the paper, and the command that starts the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pandas as pd
import streamlit as st

from app import session
from app.components import preflight
from app.components.form import FormValues, check, config_form
from app.components.method_choice import choose_method
from app.components.queue_note import queue_note
from app.components.settings import chain_settings_html, differences_html, differences_words, paper_words
from app.components.source import Source, attack_source, choose_network, genotype_source
from app.components.states import RUN_PAGE, heading, problem, section
from app.drawing.cell_graph import drawing, genotype_graphs
from app.drawing.placement_picture import rule_figure, rules_figures
from app.formats import count
from app.theme import KIND_TITLES
from engine import requests
from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import DERIVED
from engine.architecture.network import named_network
from engine.architecture.placement import Arrangement
from engine.architecture.transplant import read_grafts, transplant
from engine.command import command_of
from engine.config import PRESETS, RetrainConfig, RunConfig, SearchConfig, network_values
from engine.config.run import KINDS
from engine.configuration_file import Configuration, from_text
from engine.configuring import Difference, build, config_class, differences_from_paper, preset_values, validate
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.errors import ConfigError, RampartError
from engine.run.chain import followers, inherited
from engine.run.folder import RunFolder
from engine.run.lineage import arrangement_of
from engine.run.matching import matched

KIND_TEXTS = {
    "search": "Search for the cells of a network that is accurate and hard to attack.",
    "retrain": "Train a network from scratch on attacked images: a derived network, or a baseline.",
    "attack": "Measure a retrained network on the test split: natural accuracy, and accuracy under each attack.",
}
THEN = ("retrain", "attack")
PLACED = ("channels", "layers", "placement", "width_ratio")  # the settings that the picture of the network shows


@dataclass(frozen=True)
class Choice:
    """The values of the controls at the top of the page. Together with the settings on the form, they define a run.

    Attributes:
        kind: kind of the run: "search", "retrain" or "attack".
        method: name of the search method; None for other kinds of run.
        dataset: name of the dataset.
        preset: name of the preset.
        then: kinds of the runs to launch after a search, in order: ("retrain", "attack") or ().
        source: genotype or network for a retraining or attack.
    """

    kind: str
    method: str | None
    dataset: str
    preset: str
    then: tuple[str, ...]
    source: Source

    @property
    def form_key(self) -> str:
        """Prefix of the keys of the form's widgets. It changes after a new choice or an import, which starts a new form."""
        parts = ("launch", self.kind, self.method or "", self.dataset, self.preset, str(_imported()["number"]))
        return ".".join(parts)


def _imported() -> dict[str, Any]:
    imported: dict[str, Any] = st.session_state.setdefault("launch.imported", {"number": 0, "changes": {}, "then_changes": {}})
    return imported


def choose(runs: pd.DataFrame) -> Choice:
    """Show the controls at the top of the page and return their values.

    The page's address may give initial values, for example ?kind=retrain&parent=ID&candidate=3 or ?preset=scout.

    Args:
        runs: table of all runs, from `RunLog.runs`.
    """
    asked = st.query_params
    _start("launch.kind", asked.get("kind"), KINDS, "search")
    _start("launch.preset", asked.get("preset"), PRESETS, "quick")
    # The preset `smoke` is meant for the project's own tests, so it is offered only if the address names it.
    presets = [name for name in PRESETS if name != "smoke" or st.session_state["launch.preset"] == "smoke"]
    kind = st.segmented_control("Kind of run", KINDS, format_func=KIND_TITLES.__getitem__, key="launch.kind", required=True,
                                label_visibility="collapsed", persist_state="session")
    assert kind is not None  # the control requires a value, and `_start` has set one
    st.caption(KIND_TEXTS[kind])
    source, method = Source(), None
    if kind == "search":
        method = choose_method()
    elif kind == "retrain":
        source = genotype_source(runs, asked.get("parent"), asked.get("candidate"), named_too=True)
    else:
        source = attack_source(runs, asked.get("parent"))
    left, right = st.columns(2)
    dataset = left.selectbox("Dataset", list(DATASETS), format_func=lambda name: DATASETS[name].title, key="launch.dataset",
                             help="\n\n".join(entry.description for _, entry in DATASETS.items()), persist_state="session")
    about = st.container()
    then: tuple[str, ...] = ()
    st.session_state.setdefault("launch.then", True)
    if kind == "search" and st.checkbox("Then retrain and attack what it finds", key="launch.then", persist_state="session"):
        then = THEN
    words = PRESETS | {"paper": _paper_words((kind, *then), method, dataset)}
    preset = right.segmented_control("Preset", presets, key="launch.preset", required=True, persist_state="session",
                                     help="\n\n".join(f"`{name}`: {words[name]}" for name in presets))
    assert preset is not None
    about.markdown(f"{':material/science: ' if preset == 'quick' else ''}**{preset}**: {words[preset]}")
    return Choice(kind, method, dataset, preset, then, source)


def _paper_words(kinds: Sequence[str], method: str | None, dataset: str) -> str:
    """Return a description of the preset `paper` for a chain of runs with the given kinds."""
    chain = [(kind, build(kind, method, dataset, "paper")) for kind in kinds]
    return paper_words(kinds[0], method, dataset, sum(len(rows) for _, rows in _differences(chain)))


def _start(key: str, asked: str | None, known: Any, default: str) -> None:
    """Set a control to the value given in the page's address.

    If the address gives no valid value and the control has not been shown yet, set the control to the default. A value from the
    address is applied only once, so that the user can change the control afterwards.

    Args:
        key: key of the control.
        asked: value in the address, or None.
        known: valid values.
        default: initial value of the control if the address gives no valid value.
    """
    if asked in known and st.session_state.get(f"{key}.asked") != asked:
        st.session_state[f"{key}.asked"] = st.session_state[key] = asked
    st.session_state.setdefault(key, default)


def steps_of(choice: Choice, values: FormValues) -> list[tuple[str, RunConfig]]:
    """Return a pair (kind, configuration) for every run that the Launch button starts, beginning with the run on the form.

    While a setting on the form is invalid, return [].

    Raises:
        ConfigError: a setting does not fit the parent run, or a later run cannot use the settings that it inherits.
        RampartError: the parent run cannot be read.
    """
    if values.config is None:
        return []
    parent = _run_of(choice.source.parent) if choice.source.parent else None
    first = inherited(parent, values.config, values.changes) if parent else values.config
    return [(choice.kind, first), *followers(choice.kind, first, choice.method, choice.preset, choice.then,
                                             _then_changes(choice))]


def _run_of(run_id: str) -> dict[str, Any]:
    return RunFolder(session.runs_root(), run_id).read_run()


def _then_changes(choice: Choice) -> dict[str, Any]:
    """Return {kind of a later run of the chain: settings that the imported configuration file changes}."""
    return {kind: changes for kind, changes in _imported()["then_changes"].items() if kind in choice.then}


def with_chain(choice: Choice, values: FormValues) -> FormValues:
    """Return the form's values. Values that do not fit the parent run or a later run of the chain are reported as problems."""
    try:
        steps_of(choice, values)
    except ConfigError as refusal:
        return FormValues(values.changes, refusal.problems, None)
    except RampartError as refusal:
        return FormValues(values.changes, {"": str(refusal)}, None)
    return values


def launch(choice: Choice, values: FormValues) -> str:
    """Submit the run and the runs that follow it, and return the id of the first run.

    If the user clicks a second time before the page has been redrawn, start nothing and return the same id.

    Raises:
        RampartError: the runs cannot be launched.
    """
    assert values.config is not None
    token = st.session_state.setdefault("launch.token", uuid4().hex)
    ids = requests.submit(session.runs_root(), choice.kind, values.config, method=choice.method, preset=choice.preset,
                          parent=choice.source.parent, then=choice.then, key=token, then_changes=_then_changes(choice))
    st.session_state["launch.used"] = token
    session.hub().refresh()  # so that the run's page, which is opened next, finds the run
    return ids[0]


def new_token_after_use() -> None:
    """Discard the token of the last launch, so that the next click starts new runs.

    Repeated clicks with the same token launch the runs only once. Call this function when the page is drawn without a click.
    """
    if "launch.used" in st.session_state:
        del st.session_state["launch.used"], st.session_state["launch.token"]


def button(choice: Choice, values: FormValues) -> None:
    """Show the Launch button. A click launches the runs and opens the page of the first run.

    If the button is disabled, the reasons are shown.
    """
    reasons = [choice.source.problem] if choice.source.problem else []
    reasons += list(values.problems.values())
    read = values.config.datasets() if values.config else (choice.dataset,)
    reasons += [missing for name in read if (missing := absence(image_source(name)))]
    clicked = st.button("Launch", type="primary", icon=":material/rocket_launch:", key="launch.go", disabled=bool(reasons),
                        width="stretch")
    if reasons:
        st.markdown(":red[:material/block: Before you can launch:]")
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
    """Show two tables: the settings that differ from the published ones, and the settings that later runs inherit."""
    if values.config is None:
        st.markdown("Fix the settings marked in red to see the differences.")
        return
    steps = steps_of(choice, values)
    shown = [(kind, rows) for kind, rows in _differences(steps) if rows]
    number = sum(len(rows) for _, rows in shown)
    st.markdown(f"{differences_words(choice.kind, choice.method, choice.dataset, number)} "
                "Epsilon and step size are in pixel space, 0 to 1.")
    for column, (kind, rows) in zip(st.columns(max(2, len(shown)), gap="large"), shown):
        column.html(differences_html(kind, choice.method, rows))
    if len(steps) > 1:
        st.markdown("**Settings along the chain.** A value that you choose for one of these settings also applies to the later "
                    "steps. The other values come from the preset of each step.")
        st.html(chain_settings_html(choice.method, steps))


def _differences(steps: Sequence[tuple[str, RunConfig]]) -> list[tuple[str, list[Difference]]]:
    return [(kind, differences_from_paper(config)) for kind, config in steps]


def exchange(choice: Choice, values: FormValues) -> None:
    """Show the controls that export and import a configuration file. The command line reads such a file with `--config FILE`."""
    configuration = Configuration(choice.kind, choice.method, choice.dataset, choice.preset, choice.then,
                                  {**choice.source.changes, **values.changes}, _then_changes(choice))
    left, right = st.columns(2)
    left.markdown("Export the kind, method, dataset, preset and every setting changed on this page.")
    left.download_button("Download configuration", configuration.to_json(), "rampart-config.json",
                         "application/json", icon=":material/download:", disabled=values.config is None)
    file = right.file_uploader("Import a configuration (JSON or YAML)", type=["json", "yaml", "yml"], max_upload_size=1,
                               key=f"launch.file.{_imported()['number']}")
    if file is not None:
        right.button("Use it", key="launch.use", on_click=_import, args=(file.getvalue(),))
    if problem := st.session_state.pop("launch.import_problem", None):
        right.error(problem)


def _import(content: bytes) -> None:
    """Set all controls of the page to the values in a configuration file.

    If the file is invalid, leave the controls unchanged and store the reason, which the page then shows.

    Args:
        content: content of the file.
    """
    try:
        configuration = from_text(content)
    except RampartError as refusal:
        st.session_state["launch.import_problem"] = str(refusal)
        return
    changes = dict(configuration.changes)
    genotype = changes.pop("genotype", None)
    if genotype:
        st.session_state["launch.source"], st.session_state["launch.pasted"] = "paste", genotype
    choose_network(changes.pop("network", DERIVED))
    st.session_state["launch.imported"] = {"number": _imported()["number"] + 1, "changes": changes,
                                           "then_changes": dict(configuration.then_changes)}
    st.session_state["launch.kind"], st.session_state["launch.dataset"] = configuration.kind, configuration.dataset
    st.session_state["launch.preset"], st.session_state["launch.then"] = configuration.preset, bool(configuration.then)
    if configuration.method:
        st.session_state["launch.method"] = configuration.method


def validated(choice: Choice, values: FormValues) -> FormValues:
    """Return the form's values, validated again together with the chosen genotype or network."""
    if not choice.source.changes or values.config is None:
        return values
    cls, preset = config_class(choice.kind, choice.method), preset_values(choice.kind, choice.method, choice.dataset,
                                                                          choice.preset)
    preset |= network_values(choice.source.changes.get("network", DERIVED))
    return check(choice.kind, cls, preset, {**values.changes, **choice.source.changes})


def size_text(size: Cost) -> str:
    """Return the size of a network in words: the number of parameters and the MACs per image."""
    return f"{count(size.parameters)} parameters, {count(size.macs)} MACs per image"


def network(choice: Choice, values: FormValues) -> None:
    """Draw the cells of the chosen genotype, and show the size of the network. For a hand-made network, show only the size."""
    genotype, data = choice.source.genotype, DATASETS[choice.dataset]
    if choice.source.network:
        named = named_network(choice.source.network, data.classes, data.image_shape)
        section(named.title, size_text(named.cost()))
    if genotype is None:
        return
    config = values.config
    size = ""
    if isinstance(config, RetrainConfig):
        runs, parent = session.runs_root(), choice.source.parent
        try:
            genotype = transplant(genotype, read_grafts(config.transplant))
            config, _ = matched(runs, config, parent)
            total = cost(genotype, channels=config.channels, layers=config.layers, classes=data.classes,
                         image_shape=data.image_shape, **arrangement_of(runs, config, parent, genotype))
        except RampartError as refusal:
            problem(str(refusal), link=None)
            return
        size = f"{size_text(total)} at {config.channels} channels and {config.layers} cells, without auxiliary head"
    section("The network", size)
    genotype_graphs(genotype, key="launch.genotype")


def command(choice: Choice, values: FormValues) -> None:
    """Show the command that starts the same runs as the Launch button."""
    st.markdown("###### Command")
    if values.config is None or choice.source.problem:
        st.caption("Fix the settings marked in red to see the command." if values.config is None else
                   "Fix the problem above to see the command.")
        return
    line = command_of(choice.kind, choice.method, choice.preset, choice.dataset,
                               {**choice.source.changes, **values.changes}, choice.then, choice.source.parent,
                               session.runs_root(), _then_changes(choice))
    st.code(line, language="bash", wrap_lines=True)
    st.caption("Run it in Rampart's folder.")


def _pictured(choice: Choice, preset: Mapping[str, Any], values: FormValues) -> RunConfig:
    """Return the configuration of the network to draw: the configuration on the form, with the chosen genotype or network.

    While a setting on the form is invalid, take only the settings listed in `PLACED` from the form, and all others from the
    preset.

    Raises:
        RampartError: the configuration made in this way is invalid as well.
    """
    own = {name: values.changes[name] for name in PLACED if name in values.changes}
    config = values.config or validate(config_class(choice.kind, choice.method), {**preset, **own})
    changes = choice.source.changes
    return validate(type(config), {**config.model_dump(), **changes}) if changes else config


def places(choice: Choice, preset: Mapping[str, Any], values: FormValues) -> None:
    """Draw the cells of the network from input to output, in the order given by the position rule on the form."""
    runs, parent, genotype = session.runs_root(), choice.source.parent, choice.source.genotype
    try:
        config = _pictured(choice, preset, values)
        if isinstance(config, RetrainConfig) and genotype is not None:
            arrangement = arrangement_of(runs, config, parent, genotype)
            config, _ = matched(runs, config, parent)
        elif isinstance(config, SearchConfig):
            arrangement = Arrangement(placement=config.placement, width_ratio=config.width_ratio)
        else:
            return
    except RampartError:  # shown elsewhere: below the field of the setting, or in place of the network's size
        return
    sizes: dict[str, Any] = {"width_ratio": arrangement["width_ratio"], "channels": config.channels, "layers": config.layers,
                             "image_shape": DATASETS[choice.dataset].image_shape}
    drawing(rule_figure(arrangement["placement"], **sizes), key="launch.placement")
    with st.expander("Every position rule at these widths"):
        drawing(rules_figures(genotype.kinds if genotype else None, **sizes), key="launch.placements")


runs = session.run_log().runs()
heading("Launch", "Runs continue when you close this page.")
queue_note()
controls, facts = st.columns([3, 2], gap="large")
with controls:
    choice = choose(runs)
    action = st.container()
picture = st.container()
differences_tab, settings_tab, exchange_tab = st.tabs(["Differences from the paper", "Settings", "Import and export"])
with settings_tab:
    follow = (" If you choose the seed, device, threads, epsilon, step size, normalisation or number of images, the later steps "
              "of the chain use the same value." if choice.then else "")
    st.caption("Each question mark explains a setting: its meaning, range and source. You can type pixel values as 8/255. "
               f"The published or default value is shown below a changed one.{follow}")
    preset_now = preset_values(choice.kind, choice.method, choice.dataset, choice.preset)
    values = config_form(choice.kind, config_class(choice.kind, choice.method), preset_now, key=choice.form_key,
                         start=_imported()["changes"], below={"width_ratio": lambda held: places(choice, preset_now, held)},
                         further=lambda held: with_chain(choice, validated(choice, held)))
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
