"""The comparison of runs: settings that differ, results, and groups of runs that differ only in their seed.

This module does not import torch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from engine.errors import RunLogError
from engine.log.runlog import RunLog

# Settings that do not distinguish recipes: seeds, the machine, and references to other runs.
NOT_IN_RECIPE = ("seed", "device", "threads")
REFERENCES = ("genotype", "inherit_from", "against", "transfer_from")
RESULTS = ("natural_accuracy", "adversarial_accuracy")


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        id: run id.
        label: title, with seed and end of the id if other runs of the comparison have the same title.
        row: row of the run in `RunLog.runs`; missing numbers are NaN.
        settings: value of each recorded setting, with the method and the preset.
    """

    id: str
    label: str
    row: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The kind of the run: "search", "retrain" or "attack"."""
        return str(self.row["kind"])

    @property
    def measured(self) -> str:
        """How and where the accuracies were measured. Accuracies are comparable only if this is equal."""
        return ", ".join(filter(None, (str(self.row["dataset"]), str(self.row["accuracy_of"]),
                                       str(self.row["adversarial_attack"]))))


@dataclass(frozen=True)
class SettingDifference:
    """A setting in which runs of one kind differ.

    Attributes:
        kind: kind of the runs that have the setting.
        name: name of the setting.
        values: value of the setting in each run of the comparison; None for runs of another kind or without the setting.
    """

    kind: str
    name: str
    values: tuple[Any, ...]


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
    rows = {row["id"]: row for row in log.runs().to_dict("records") if row["id"] in set(ids)}
    if unknown := [one for one in ids if one not in rows]:
        raise RunLogError(f"Expected ids of runs in {log.root}, got {', '.join(unknown)}, which are not there; `rampart runs` "
                          "lists them.")
    configs = log.configs(ids)
    labels = labels_of([rows[one] for one in ids], [configs.get(one, {}) for one in ids])
    return [ComparedRun(one, label, rows[one], {"method": rows[one]["method"], "preset": rows[one]["preset"],
                                               **configs.get(one, {})})
            for one, label in zip(ids, labels, strict=True)]


def labels_of(rows: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one distinct label per run: its title, then as needed its kind, its seed and the end of its id."""
    labels = [str(row["title"]) for row in rows]
    further = ([row["kind"] for row in rows], [f"seed {config['seed']}" if "seed" in config else "" for config in configs],
               [str(row["id"]).rsplit("-", 1)[-1] for row in rows])
    for words in further:
        same = Counter(labels)
        if len({word for label, word in zip(labels, words, strict=True) if same[label] > 1}) > 1:
            labels = [f"{label}, {word}" if word and same[label] > 1 else label
                      for label, word in zip(labels, words, strict=True)]
    return labels


def setting_differences(runs: Sequence[ComparedRun]) -> list[SettingDifference]:
    """Return the settings in which runs of the same kind differ."""
    found = []
    for kind in dict.fromkeys(run.kind for run in runs):
        settings = [run.settings if run.kind == kind else None for run in runs]
        known = [one for one in settings if one]
        for name in dict.fromkeys(name for one in known for name in one):
            if any(one.get(name) != known[0].get(name) for one in known):
                found.append(SettingDifference(kind, name, tuple(one.get(name) if one else None for one in settings)))
    return found


def seed_groups(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Return the groups of runs that differ at most in their seed and machine, in the order of their first runs."""
    members: dict[tuple[str, ...], list[ComparedRun]] = defaultdict(list)
    for run in runs:
        recipe = {name: value for name, value in run.settings.items() if name not in (*NOT_IN_RECIPE, *REFERENCES)}
        members[run.kind, str(run.row["title"]), repr(sorted(recipe.items()))].append(run)
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
    """Return the comparison as a value for JSON: the runs with their results, and the settings that differ."""
    names = ("id", "kind", "title", "status", "natural_accuracy", "natural_low", "natural_high", "natural_images",
             "adversarial_accuracy", "adversarial_low", "adversarial_high", "adversarial_images", "adversarial_attack",
             "accuracy_of", "parameters", "macs", "genotype_hash")
    ids = [run.id for run in runs]
    return {"results": [{"label": run.label, **{name: _json(run.row[name]) for name in names}} for run in runs],
            "settings": [{"kind": one.kind, "name": one.name, "values": dict(zip(ids, one.values, strict=True))}
                         for one in setting_differences(runs)]}


def _json(value: Any) -> Any:
    """Return a value of a table as a value for JSON; None for NaN."""
    return None if value != value else value
