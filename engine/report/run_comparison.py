"""The comparison of runs: settings that differ, results, and groups of runs that differ only in their seed.

This module does not import torch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from engine.config.run import KINDS
from engine.configuring import machine_settings
from engine.errors import RunLogError
from engine.log.runlog import RunLog

# Settings that refer to other runs, and do not distinguish recipes.
REFERENCES = ("genotype", "inherit_from", "against", "transfer_from")
RESULTS = ("natural_accuracy", "adversarial_accuracy")


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        id: run id.
        label: title, with kind, seeds and end of the id if other runs of the comparison have the same title.
        row: row of the run in `RunLog.runs`; missing numbers are NaN.
        steps: {kind of run: {name: value}} with the recorded settings, the method and the preset. It has one entry for the run
            itself and one for each run that it follows, for example the search of a retraining.
    """

    id: str
    label: str
    row: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]]

    @property
    def kind(self) -> str:
        """The kind of the run: "search", "retrain" or "attack"."""
        return str(self.row["kind"])

    @property
    def seeds(self) -> list[int]:
        """The different seeds of search and retraining, or the seed of an attack that follows neither."""
        found = [self.steps[kind]["seed"] for kind in ("search", "retrain") if "seed" in self.steps.get(kind, {})]
        own = self.steps.get(self.kind, {}).get("seed")
        return list(dict.fromkeys(found)) or ([] if own is None else [own])

    @property
    def measured(self) -> str:
        """The conditions under which the accuracies were measured. Only accuracies with equal conditions can be compared."""
        return ", ".join(filter(None, (str(self.row["dataset"]), str(self.row["accuracy_of"]),
                                       str(self.row["adversarial_attack"]))))


@dataclass(frozen=True)
class SettingDifference:
    """A setting in which runs of one kind differ.

    Attributes:
        kind: kind of the step that has the setting: "search", "retrain" or "attack".
        name: name of the setting.
        values: value of the setting in each run of the comparison; None for runs without the step or the setting.
        methods: method of the step in each run, or None.
    """

    kind: str
    name: str
    values: tuple[Any, ...]
    methods: tuple[str | None, ...]


@dataclass(frozen=True)
class RunGroup:
    """Runs with the same title and settings, which differ at most in their seed.

    Attributes:
        label: title of the runs, and a number if several groups have the same title.
        runs: the runs.
        means: {name of a result: mean over the runs}, if all runs have measured it in the same way.
        spreads: {name of a result: sample standard deviation}, for at least two runs.
    """

    label: str
    runs: tuple[ComparedRun, ...]
    means: Mapping[str, float]
    spreads: Mapping[str, float]


def compared_runs(log: RunLog, ids: Sequence[str]) -> list[ComparedRun]:
    """Return the runs with these ids in the given order.

    Raises:
        RunLogError: a run does not exist.
    """
    rows = {row["id"]: row for row in log.runs().to_dict("records")}
    if unknown := [one for one in ids if one not in rows]:
        raise RunLogError(f"Expected ids of runs in {log.root}, got {', '.join(unknown)}, which are not there; `rampart runs` "
                          "lists them.")
    lineages = {one: _lineage(rows, one) for one in ids}
    configs = log.configs([run for lineage in lineages.values() for run in lineage])
    steps = {one: {str(rows[run]["kind"]): _settings(rows[run], configs.get(run, {})) for run in lineage}
             for one, lineage in lineages.items()}
    return _labelled([ComparedRun(one, str(rows[one]["title"]), rows[one], steps[one]) for one in ids])


def _settings(row: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: value} with the settings and the preset of a run and, except for an attack, its method."""
    method = {} if row["kind"] == "attack" else {"method": row["method"]}
    return {**method, "preset": row["preset"], **config}


def _lineage(rows: Mapping[str, Mapping[str, Any]], run: str) -> list[str]:
    """Return the ids of a run and of the runs that it follows, up to the first run that is not in `rows`."""
    lineage: list[str] = []
    while run in rows and run not in lineage:
        lineage.append(run)
        run = str(rows[run]["parent"])
    return lineage


def _labelled(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return the runs with distinct labels: the title and, where runs share a title, their kind, seeds and the end of the id."""
    labels = [run.label for run in runs]
    for words in ([run.kind for run in runs], [_seed_words(run) for run in runs], [run.id.rsplit("-", 1)[-1] for run in runs]):
        same = Counter(labels)
        groups: dict[str, set[str]] = defaultdict(set)
        for label, word in zip(labels, words, strict=True):
            groups[label].add(word)
        labels = [f"{label}, {word}" if word and same[label] > 1 and len(groups[label]) > 1 else label
                  for label, word in zip(labels, words, strict=True)]
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


def _seed_words(run: ComparedRun) -> str:
    return f"seed{'s' if len(run.seeds) > 1 else ''} {' and '.join(map(str, run.seeds))}" if run.seeds else ""


def setting_differences(runs: Sequence[ComparedRun]) -> list[SettingDifference]:
    """Return the settings in which the runs differ, including the settings of the runs that they follow.

    For each kind of step, only the runs that have a step of this kind are compared. For example, a run that follows no search is
    ignored when the settings of searches are compared.
    """
    found = []
    for kind in KINDS:
        steps = [run.steps.get(kind) for run in runs]
        known = [one for one in steps if one is not None]
        methods = tuple(None if one is None else str(one.get("method") or "") or None for one in steps)
        for name in dict.fromkeys(name for one in known for name in one):
            if any(one.get(name) != known[0].get(name) for one in known):
                found.append(SettingDifference(kind, name, tuple(one and one.get(name) for one in steps), methods))
    return found


def seed_groups(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Return the groups of runs that differ at most in their seed and machine, in the order of their first runs."""
    members: dict[tuple[str, ...], list[ComparedRun]] = defaultdict(list)
    for run in runs:
        recipe = {kind: sorted((name, repr(value)) for name, value in step.items()
                               if name not in ("seed", *REFERENCES, *machine_settings(step)))
                  for kind, step in run.steps.items()}
        members[run.kind, str(run.row["title"]), repr(recipe)].append(run)
    titles = Counter((kind, title) for kind, title, _ in members)
    numbers: Counter[tuple[str, str]] = Counter()
    groups = []
    for (kind, title, _), same in members.items():
        numbers[kind, title] += 1
        label = title if titles[kind, title] == 1 else f"{title}, settings {numbers[kind, title]}"
        groups.append(_group(label, same))
    return groups


def _group(label: str, runs: Sequence[ComparedRun]) -> RunGroup:
    alike = len({run.measured for run in runs}) == 1
    values = {name: [float(run.row[name]) for run in runs if run.row[name] == run.row[name]] for name in RESULTS} if alike else {}
    return RunGroup(label, tuple(runs), {name: mean(each) for name, each in values.items() if each},
                    {name: stdev(each) for name, each in values.items() if len(each) > 1})


def comparison_record(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """Return the comparison as a dict that can be written as JSON: the runs with their results, and the settings that differ."""
    names = ("id", "kind", "title", "status", "natural_accuracy", "natural_low", "natural_high", "natural_images",
             "adversarial_accuracy", "adversarial_low", "adversarial_high", "adversarial_images", "adversarial_attack",
             "accuracy_of", "parameters", "macs", "genotype_hash")
    ids = [run.id for run in runs]
    return {"results": [{"label": run.label, **{name: _json(run.row[name]) for name in names}} for run in runs],
            "settings": [{"kind": one.kind, "name": one.name, "values": dict(zip(ids, one.values, strict=True))}
                         for one in setting_differences(runs)]}


def _json(value: Any) -> Any:
    """Return a value of a table in a form that JSON can hold; None for NaN."""
    return None if value != value else value
