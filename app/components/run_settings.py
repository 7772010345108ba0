"""The settings of a run: differences from the published settings, a preset or another run; its environment; and its command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st

from app import address, session
from app.components.html_table import StaticColumn, html_table
from app.components.run_sentence import told
from app.components.settings import (
    all_settings_html,
    chain_settings_html,
    differ_text,
    differences_html,
    differences_words,
    is_published,
)
from app.components.states import section
from engine.config import PRESETS
from engine.configuring import NOT_COMPARED, Difference, config_class, preset_values, recorded
from engine.errors import ConfigError, RunError
from engine.run.folder import RunFolder, read_json

PUBLISHED, PRESET, RUN = "published", "preset", "run"
SHORT = 12  # digits of a commit that are shown


def settings(run_id: str) -> None:
    """Show the settings of a run, the code and machine that it used, and the command that repeats it.

    The settings are first compared with a reference that the reader chooses. A collapsed section lists all of them.
    """
    run = session.run_log().run(run_id)
    if run["imported"]:
        section("Settings", f"imported from {run['imported'].get('file', 'a file')}, which holds no other settings")
        told(run_id, "settings")
    else:
        section("Settings", "compared with a reference")
        told(run_id, "settings")
        _differences(run)
    with st.expander("All settings"):
        st.html(all_settings_html(run["kind"], run["method"], run["config"], run["differences"]))
    _along_the_chain(run)
    _environment(run)
    verb = "repeats this import" if run["imported"] else "starts the same run"
    section("Command", f"{verb} from a terminal in Rampart's folder")
    st.code(run["command"], language="bash", wrap_lines=True)


def _differences(run: Mapping[str, Any]) -> None:
    """Show a selector of the reference, and the settings of the run that differ from it."""
    published = "Published settings" if is_published(run["kind"], run["method"]) else "Default settings"
    left, right, _ = st.columns([3, 5, 4], vertical_alignment="bottom")
    references = {PUBLISHED: published, PRESET: "A preset", RUN: "Another run"}
    reference = address.selectbox(left, "Compare with", references, name="with", key="run.settings.with")
    if reference == PUBLISHED:
        st.caption(differences_words(run["kind"], run["method"], run["dataset"], len(run["differences"])))
        rows, title = run["differences"], ""
    elif reference == PRESET:
        preset = address.selectbox(right, "Preset", {name: name for name in _presets(run)}, name="preset",
                                   key="run.settings.preset")
        rows = differences(run["config"], preset_values(run["kind"], run["method"], run["dataset"], preset))
        title = f"Preset {preset}"
        st.caption(f"{differ_text(len(rows))} from the preset {preset}: {PRESETS[preset]}")
    else:
        names = {str(row.id): f"{row.title} · {row.id}" for row in session.run_log().runs().itertuples()
                 if row.kind == run["kind"] and row.id != run["id"]}
        if not names:
            st.caption(f"This folder has no other {run['kind']} run.")
            return
        other = address.selectbox(right, "Run", names, name="other", key="run.settings.other")
        rows, title = differences(run["config"], session.run_log().configs([other]).get(other, {})), other
        st.caption(f"{differ_text(len(rows))} from {names[other]}.")
    if rows:
        st.html(differences_html(run["kind"], run["method"], rows, title))


def differences(values: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Difference]:
    """Return the settings whose values differ from a reference.

    Settings that the reference lacks are left out, and so are device, threads, network and genotype.

    Args:
        values: {name of a setting: value} of the run.
        reference: {name of a setting: value} to compare with.
    """
    ignored = NOT_COMPARED - {"seed", "split_seed"}
    return [Difference(name, value, reference[name]) for name, value in values.items()
            if name in reference and name not in ignored and _plain(value) != _plain(reference[name])]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _presets(run: Mapping[str, Any]) -> list[str]:
    """Return the presets for a run's kind and method, the run's own preset first; [] if this version knows none."""
    try:
        known = list(config_class(run["kind"], run["method"]).presets)
    except ConfigError:
        return []
    return sorted(known, key=lambda name: name != run["preset"])


def _along_the_chain(run: Mapping[str, Any]) -> None:
    """Show the settings that runs of a chain inherit, if the chain has several runs whose settings can be read."""
    steps = []
    for one in session.run_log().family(run["id"]):
        try:
            record = RunFolder(session.runs_root(), one).read_run()
            steps.append((str(record["kind"]), recorded(record)))
        except (ConfigError, RunError):
            continue
    if len({kind for kind, _ in steps}) > 1:
        with st.expander("Settings along the chain"):
            st.html(chain_settings_html(run["method"], list(dict(reversed(steps)).items())[::-1]))


def _environment(run: Mapping[str, Any]) -> None:
    """Show the version of the code, the hashes of data and splits, the device and the packages of a run, as recorded."""
    try:
        place = read_json(RunFolder(session.runs_root(), run["id"]).environment_json) or {}
    except RunError:
        place = {}
    facts = dict(_facts(run, place))
    if facts:
        section("Code, data and machine", "as recorded at the run's first start")
        columns: tuple[StaticColumn[str], ...] = (StaticColumn("Fact", lambda name: name, names_row=True),
                                                  StaticColumn("Value", lambda name: facts[name], look="rp-wrap"))
        st.html(html_table(columns, facts, label="Code, data and machine", file=f"{run['id']}-environment"))


def _facts(run: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each recorded fact about the code, the data and the machine.

    Args:
        run: the run, from `RunLog.run`.
        place: content of environment.json, which the run wrote at its first start; {} if the file is missing.
    """
    if version := run["code"].get("version"):
        yield "Commit of the code", str(version)[:SHORT] + (", with uncommitted changes" if run["code"].get("diff") else "")
    names = {"data_hash": "Hash of the images and labels", "split_hash": "Hash of the splits", "device_name": "Processor or GPU",
             "threads": "CPU threads", "cpu_capability": "Vector instructions", "platform": "System"}
    yield from ((title, str(place[name])) for name, title in names.items() if place.get(name) is not None)
    versions = place.get("versions") or run["packages"]
    if isinstance(versions, dict) and versions:
        yield "Packages", ", ".join(f"{name} {version}" for name, version in versions.items())
