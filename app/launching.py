"""Drafts of a launch: the content of all controls of the Launch page, converted to and from the page's address.

A draft can also be made from a run, to repeat it. Wrong values in the page's address are reported in sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.components.form import expected_words, holds
from engine.architecture.catalogue import find_genotype
from engine.command import changes_of
from engine.config import PRESETS, RunConfig, pixels_text
from engine.config.fields import is_pixels, parse_pixels
from engine.config.run import KINDS
from engine.configuration_file import Configuration
from engine.configuring import config_class, recorded
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RampartError, RunError, shortened
from engine.grid import full_name, setting_value
from engine.registry import unknown_name
from engine.run.chain import followers, kinds_after
from engine.run.folder import RunFolder, read_json
from engine.search.methods.registry import METHODS

START = Configuration("search", "arnas", "digits", "quick", ("retrain", "attack"))
NOTHING = "none"  # value of `then` in an address if no run follows
GRID = "grid."  # start of the name of a setting with several values
CONTROLS = ("kind", "method", "dataset", "preset", "then", "parent", "candidate", "methods", "seeds", "find", "open", "from")


@dataclass(frozen=True)
class Draft(Configuration):
    """The content of all controls of the Launch page.

    Attributes:
        parent: id of the run that provides the genotype or network; "" if it does not come from a run.
        candidate: number of the parent's candidate, as text; "" for the result of the parent.
        methods: further search methods, which are launched in addition to `method`.
        seeds: text of the seeds; "" for a single chain (a run with its followers).
        axes: {name of a setting with several values: text of its values}.
        find: words that filter the settings.
        open: kinds of the runs whose settings are unfolded.
        origin: id of the run from which the draft was made; "" without one.
    """

    parent: str = ""
    candidate: str = ""
    methods: tuple[str, ...] = ()
    seeds: str = ""
    axes: Mapping[str, str] = field(default_factory=dict)
    find: str = ""
    open: tuple[str, ...] = ()
    origin: str = ""


def draft_of(configuration: Configuration, **more: Any) -> Draft:
    """Return a draft with the settings of a configuration and the further values `more`."""
    return Draft(**(vars(configuration) | more))


def to_address(draft: Draft) -> dict[str, str]:
    """Return a draft as query parameters of the page's address. `from_address` converts them back to the same draft."""
    address = {"kind": draft.kind, "method": draft.method or "", "dataset": draft.dataset, "preset": draft.preset,
               "then": ",".join(draft.then) or (NOTHING if kinds_after(draft.kind) else ""), "from": draft.origin,
               "parent": draft.parent, "candidate": draft.candidate, "methods": ",".join(draft.methods), "seeds": draft.seeds,
               "find": draft.find, "open": ",".join(draft.open), **{f"{GRID}{name}": text for name, text in draft.axes.items()}}
    for kind, changes in ((draft.kind, draft.changes), *draft.then_changes.items()):
        fields = config_class(kind, draft.method if kind == "search" else None).model_fields
        prefix = "" if kind == draft.kind else f"{kind}."
        address |= {f"{prefix}{name}": value_text(fields[name], value) for name, value in changes.items()}
    return {name: text for name, text in address.items() if text or (name not in CONTROLS and not name.startswith(GRID))}


def value_text(info: FieldInfo, value: Any) -> str:
    """Return the value of a setting as text from which `setting_value` restores it exactly."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, float):
        text = pixels_text(value)
        return text if is_pixels(info) and parse_pixels(text) == value else repr(value)
    return str(value)


def from_address(address: Mapping[str, str], runs: Path) -> tuple[Draft, list[str]]:
    """Convert the query parameters of the page's address to a draft.

    Args:
        address: {name of the parameter: text}.
        runs: folder of all runs, in which the runs that "from" and "parent" name are looked up.

    Returns:
        The draft. Wrong values are left out.
        One sentence for each wrong value.
    """
    problems: list[str] = []
    draft = draft_of(START)
    if origin := address.get("from", ""):
        try:
            draft = draft_of_run(runs, origin)
        except RampartError as refusal:
            problems.append(str(refusal))
    draft = _with_controls(draft, address, runs, problems)
    changes: dict[str, dict[str, Any]] = {draft.kind: dict(draft.changes), **{kind: dict(own) for kind, own in
                                                                             draft.then_changes.items()}}
    for name, text in address.items():
        if name in CONTROLS or name.startswith(GRID):
            continue
        kind, _, setting = name.rpartition(".")
        kind = kind or draft.kind
        try:
            changes.setdefault(kind, {})[setting] = _read(draft, kind, setting, text)
        except ConfigError as refusal:
            problems.append(str(refusal))
    axes: dict[str, str] = {}
    for name, text in address.items():
        if name.startswith(GRID):
            try:
                axes[full_name(draft, name.removeprefix(GRID))] = text
            except ConfigError as refusal:
                problems.append(str(refusal))
    return replace(draft, changes=changes.pop(draft.kind), axes=axes,
                   then_changes={kind: own for kind, own in changes.items() if own and kind in draft.then}), problems


def _with_controls(draft: Draft, address: Mapping[str, str], runs: Path, problems: list[str]) -> Draft:
    """Return the draft with the values that the page's address gives to the controls (run kind, method, dataset and so on).

    Settings in the page's address are not read here. For each value that is not accepted, the control keeps its default, and a
    sentence is appended to `problems`.
    """
    def known(name: str, noun: str, names: Iterable[str], default: str) -> str:
        value = address.get(name, "")
        if value and value not in (names := list(names)):
            problems.append(unknown_name(noun, value, names))
        return value if value in list(names) else default

    kind = known("kind", "run kind", KINDS, draft.kind)
    parent = address.get("parent", draft.parent if kind == draft.kind else "")
    if kind != draft.kind:
        draft = replace(draft, kind=kind, method=START.method, changes={}, then_changes={}, then=START.then)
    dataset = known("dataset", "dataset", DATASETS, _dataset_of(runs, parent, problems) or draft.dataset)
    wanted = address.get("then", ",".join(draft.then) if kind == "search" or draft.origin else NOTHING)
    then = tuple(filter(None, wanted.replace(NOTHING, "").split(",")))
    if then != kinds_after(kind)[:len(then)]:
        problems.append(f"then must be {','.join(kinds_after(kind)) or NOTHING} after a run of kind {kind}, got {wanted!r}; "
                        "choose what follows below.")
        then = ()
    method = known("method", "method", METHODS, draft.method or "arnas") if kind == "search" else None
    methods = [name for name in address.get("methods", "").split(",") if name]
    problems += [unknown_name("method", name, METHODS) for name in methods if name not in METHODS]
    return replace(
        draft, method=method, dataset=dataset, preset=known("preset", "preset", PRESETS, draft.preset), then=then, parent=parent,
        candidate=address.get("candidate", draft.candidate), seeds=address.get("seeds", ""), find=address.get("find", ""),
        methods=tuple(name for name in dict.fromkeys(methods) if name in METHODS and name != method),
        open=tuple(one for one in address.get("open", "").split(",") if one in KINDS))


def _dataset_of(runs: Path, parent: str, problems: list[str]) -> str:
    """Return the dataset of the run `parent`, or "" if there is no parent or this version does not know its dataset.

    If run.json of the parent cannot be read, append a sentence to `problems` and return "".
    """
    if not parent:
        return ""
    try:
        name = str(RunFolder(runs, parent).read_run()["config"].get("dataset", ""))
    except RampartError as refusal:
        problems.append(str(refusal))
        return ""
    return name if name in DATASETS else ""


def _read(draft: Draft, kind: str, name: str, text: str) -> Any:
    """Return the value of the setting `name` of a run of kind `kind`, given its text in the page's address.

    Raises:
        ConfigError: the draft launches no run of this kind, runs of this kind have no such setting, or the setting's control
            cannot hold the value.
    """
    if kind not in (draft.kind, *draft.then):
        raise ConfigError(f"{kind}.{name} in the address is a setting of a run that is not launched; choose what follows below.")
    cls = config_class(kind, draft.method if kind == "search" else None)
    if name not in cls.model_fields or name == "dataset":
        nearest = get_close_matches(name, cls.model_fields, n=1)
        raise ConfigError(f"The address names {shortened(name)}, which is no setting of a {kind} run."
                          f"{f' Did you mean {nearest[0]!r}?' if nearest else ''}")
    value = setting_value(cls, name, text)
    if not holds(cls.model_fields[name], value):
        raise ConfigError(f"{name} in the address must be {expected_words(cls.model_fields[name])}, got {shortened(text)}; it "
                          "was left out.")
    return value


def draft_of_run(runs: Path, run_id: str, exactly: bool = False) -> Draft:
    """Return a draft that repeats a run and those of its followers that were launched with it.

    Args:
        runs: folder of all runs.
        run_id: id of the run.
        exactly: True to keep a genotype in the settings. False to replace it by the number of the parent's candidate that has
            this genotype, if there is one. Only the Launch page can use such a number.

    Raises:
        RunError: there is no such run, or it was imported, so that it cannot be launched.
        ConfigError: this version does not know the run's settings.
    """
    run = RunFolder(runs, run_id).read_run()
    if run.get("imported"):
        raise RunError(f"A run that was launched can be cloned, and {run_id} was imported; retrain or attack it instead.")
    kind, config = str(run["kind"]), recorded(run)
    method = str(run["method"]) if kind == "search" else None
    preset = run["preset"] if run.get("preset") in PRESETS else "paper"
    children = _followers_of(runs, run)
    then = tuple(str(child["kind"]) for child in children)
    then_changes: dict[str, dict[str, Any]] = {}
    for position, child in enumerate(children):
        usual = followers(kind, config, method, preset, then[:position + 1], then_changes)[position][1]
        if own := _different(recorded(child), usual):
            then_changes[then[position]] = own
    changes = {name: value for name, value in changes_of(kind, method, preset, config).items() if name != "dataset"}
    parent = str(run.get("parent") or "")
    candidate = "" if exactly else _candidate_of(runs, parent, str(changes.get("genotype", "")))
    if candidate:
        del changes["genotype"]
    return Draft(kind, method, config.dataset, preset, then, changes, then_changes, parent=parent, candidate=candidate,
                 origin=run_id)


def _candidate_of(runs: Path, parent: str, genotype: str) -> str:
    """Return the number of the candidate of a search that has this genotype, or "" if none has it."""
    if not parent or not genotype:
        return ""
    wanted = find_genotype(genotype).hash
    measured = (read_json(RunFolder(runs, parent).results / "candidates.json") or {}).get("candidates", [])
    return next((str(one["candidate"]) for one in measured if one["hash"] == wanted), "")


def _followers_of(runs: Path, run: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the run.json of each follower that was launched together with a run, in the order of the chain.

    The followers of a search are its retraining and the attack on the retrained network. If a grid launched several followers of
    one kind, only the first is returned. Deleted followers, and the runs that follow them, are left out.
    """
    chain: list[Mapping[str, Any]] = []
    for child_id in run.get("children_of_chain") or ():
        before = chain[-1]["id"] if chain else run["id"]
        try:
            child = RunFolder(runs, child_id).read_run()
        except RunError:  # deleted
            continue
        if child.get("parent") == before:
            chain.append(child)
    return chain


def _different(config: RunConfig, other: RunConfig) -> dict[str, Any]:
    """Return {name: value} for the settings of `config` whose value differs from that of `other`."""
    return {name: value for name, value in config if value != getattr(other, name)}
