"""What the Launch page shows about a launch: its settings compared with others, its command and a drawing of its network.

The settings are compared with the published settings and with the run that filled the page. They can be saved to a configuration
file and loaded from one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import session
from app.components.form import FormValues, label_of
from app.components.html_table import StaticColumn, html_table
from app.components.launch_choice import Choice, filled, import_configuration
from app.components.launch_grid import Repetition, configuration_of
from app.components.launch_steps import steps_of, then_changes
from app.components.settings import chain_settings_html, differences_html, differences_words, setting_text
from app.components.states import problem, section, small_heading
from app.drawing.cell_graph import drawing, genotype_graphs
from app.drawing.placement_picture import rule_figure, rules_figures
from app.formats import count, markdown, plural
from app.theme import KIND_TITLES
from engine.architecture.cost import Cost, cost
from engine.architecture.network import named_network
from engine.architecture.placement import Arrangement
from engine.architecture.transplant import read_grafts, transplant
from engine.command import command_of
from engine.config import RetrainConfig, RunConfig, SearchConfig
from engine.configuration_file import from_text
from engine.configuring import Difference, config_class, differences_from_paper, recorded, validate
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.run.folder import RunFolder
from engine.run.lineage import arrangement_of
from engine.run.matching import matched

PLACED = ("channels", "layers", "placement", "width_ratio")  # the settings that the picture of the network shows
Forms = Mapping[str, FormValues]


def differences(choice: Choice, forms: Forms) -> None:
    """Show two tables: the settings that differ from the published settings, and the settings that later runs inherit."""
    steps = steps_of(choice, forms)
    if not steps:
        st.markdown("Fix the settings marked in red to see the differences.")
        return
    shown = [(kind, rows) for kind, config in steps if (rows := differences_from_paper(config))]
    number = sum(len(rows) for _, rows in shown)
    st.markdown(f"{differences_words(choice.kind, choice.method, choice.dataset, number)} "
                "Epsilon and step size are in pixel space, 0 to 1.")
    for column, (kind, rows) in zip(st.columns(max(2, len(shown)), gap="large"), shown):
        column.html(differences_html(kind, choice.method, rows))
    if len(steps) > 1:
        st.markdown("**Settings along the chain.** A value that you choose for one of these settings also applies to the later "
                    "steps. The other values come from the preset of each step.")
        st.html(chain_settings_html(choice.method, steps))


def exchange(choice: Choice, forms: Forms) -> None:
    """Show the controls that export and import a configuration file. The command line reads such a file with `--config FILE`."""
    left, right = st.columns(2)
    left.markdown("Export the kind, method, dataset, preset and every setting changed on this page.")
    left.download_button("Download configuration", configuration_of(choice, forms).to_json(), "rampart-config.json",
                         "application/json", icon=":material/download:", disabled=not steps_of(choice, forms))
    file = right.file_uploader("Load settings from a file (JSON or YAML)", type=["json", "yaml", "yml"], max_upload_size=1,
                               key=f"launch.file.{filled()['number']}")
    if file is not None:
        right.button("Use it", key="launch.use", on_click=_import, args=(file.getvalue(),))
    if refusal := st.session_state.pop("launch.import_problem", None):
        right.error(markdown(refusal))


def _import(content: bytes) -> None:
    """Set all controls of the page to the values in a configuration file.

    If the file is invalid, store the reason in the session.
    """
    try:
        import_configuration(from_text(content))
    except RampartError as refusal:
        st.session_state["launch.import_problem"] = str(refusal)


def command(choice: Choice, forms: Forms, repetition: Repetition) -> None:
    """Show the command that starts the same runs as the Launch button."""
    small_heading("Command")
    if not steps_of(choice, forms) or choice.source.problem or repetition.problem:
        st.caption("Fix the settings marked in red to see the command." if not steps_of(choice, forms) else
                   "Fix the problem above to see the command.")
        return
    base = configuration_of(choice, forms)
    line = command_of(choice.kind, choice.method, choice.preset, choice.dataset, base.changes, choice.then, choice.source.parent,
                      session.runs_root(), then_changes(choice, forms), repetition.grid.axes)
    st.code(line, language="bash", wrap_lines=True)
    st.caption("Run it in Rampart's folder.")


def size_text(size: Cost) -> str:
    """Return the size of a network in words: the number of parameters and the MACs per image."""
    return f"{count(size.parameters)} parameters, {count(size.macs)} MACs per image"


def network(choice: Choice, forms: Forms) -> None:
    """Draw the cells of the chosen genotype, and show the size of the network. For a hand-made network, show only the size."""
    genotype, data = choice.source.genotype, DATASETS[choice.dataset]
    config: RunConfig | None = forms[choice.kind].config
    if choice.source.network:
        _hand_made(choice, config)
    if genotype is None:
        return
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


def _hand_made(choice: Choice, config: RunConfig | None) -> None:
    """Show the name and the size of the chosen hand-made network.

    If the form asks to match the size of a reference network, the width that comes closest is used.
    """
    data, name = DATASETS[choice.dataset], choice.source.network
    if isinstance(config, RetrainConfig):
        try:
            name = matched(session.runs_root(), config, None)[0].network
        except RampartError as refusal:
            problem(str(refusal), link=None)
            return
    named = named_network(name, data.classes, data.image_shape)
    section(named.title, size_text(named.cost()))


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
    with st.popover("Every position rule at these widths"):
        drawing(rules_figures(genotype.kinds if genotype else None, **sizes), key="launch.placements")


def origin_differences(choice: Choice, forms: Forms, origin: str) -> list[tuple[str, Difference]] | None:
    """Return a pair (kind of run, setting with both values) for each setting that differs from the run that filled the page.

    Return None if a setting is invalid, or if the page now launches another kind of run or another method.

    Args:
        choice, forms: content of the page.
        origin: id of the run that filled the page.
    """
    steps, runs = steps_of(choice, forms), session.runs_root()
    run = RunFolder(runs, origin).read_run()
    if not steps or (run["kind"], run.get("method") if choice.kind == "search" else None) != (choice.kind, choice.method):
        return None
    children = [RunFolder(runs, one) for one in run.get("children_of_chain") or ()]
    chain = [run, *(folder.read_run() for folder in children if folder.exists())]
    rows: list[tuple[str, Difference]] = []
    for kind, config in steps:
        before = next((recorded(one) for one in chain if one["kind"] == kind), None)
        if before is not None:
            values = config.model_dump() | {name: value for name, value in choice.source.changes.items() if kind == choice.kind}
            rows += [(kind, Difference(name, value, getattr(before, name))) for name, value in values.items()
                     if value != getattr(before, name)]
    return rows


def origin_html(choice: Choice, rows: Sequence[tuple[str, Difference]], origin: str) -> str:
    """Return an HTML table that compares settings on the page with their values in the run that filled the page.

    Args:
        choice: values of the controls at the top of the page.
        rows: the differing settings, from `origin_differences`.
        origin: id of the run that filled the page, used as the heading of the column with its values.
    """
    def text(kind: str, name: str, value: Any) -> str:
        return setting_text(kind, choice.method if kind == "search" else None, name, value)

    columns: tuple[StaticColumn[tuple[str, Difference]], ...] = (
        StaticColumn("Setting", lambda row: f"{KIND_TITLES[row[0]]}: {label_of(row[1].field)}", names_row=True),
        StaticColumn("Here", lambda row: text(row[0], row[1].field, row[1].value)),
        StaticColumn(origin, lambda row: text(row[0], row[1].field, row[1].paper)))
    return html_table(columns, rows, label=f"{plural(len(rows), 'setting')} that differ from {origin}", look="rp-wrap")
