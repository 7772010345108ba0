"""The methods paragraph of a paper pack: what was done, in sentences that contain only recorded values.

Every number in a sentence is a value of run.json, environment.json or events.jsonl of one of the runs, printed as elsewhere in
Rampart. A sentence whose values were not recorded is left out. The paragraph draws no conclusions; comparisons are in the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.attack.statistics import accuracy_words
from engine.log.runlog import RunLog
from engine.report.html import setting_text
from engine.report.latency import latencies_of
from engine.report.robustness import RobustnessTable, rows_of
from engine.report.words import dataset_text, protocol_text
from engine.run.folder import RunFolder, read_json

# Settings that a sentence mentions, in this order, and the words around the value. Settings that are off are left out.
SEARCH = {"epochs": "{} epochs", "batch_size": "batches of {}", "channels": "{} channels", "layers": "{} cells",
          "weighting": "weighting {}", "attack_steps": "attacks of {} steps", "epsilon": "epsilon {}",
          "attack_epsilon": "epsilon {}", "split_seed": "split seed {}"}
RETRAIN = {"training": "training {}", "epochs": "{} epochs", "batch_size": "batches of {}", "channels": "{} channels",
           "layers": "{} cells", "learning_rate": "learning rate {}", "momentum": "momentum {}",
           "weight_decay": "weight decay {}", "schedule": "schedule {}", "attack_steps": "attacks of {} steps",
           "epsilon": "epsilon {}", "step_size": "step size {}", "split_seed": "split seed {}"}
MOST_RESULTS = 6  # attack runs whose accuracies are given in sentences; with more, only the tables give them
ADVERSARIAL = ("attack_steps", "epsilon", "step_size")  # without meaning in a natural training


def methods(log: RunLog, rows: Sequence[Mapping[str, Any]], tables: Sequence[RobustnessTable]) -> list[str]:
    """Return the sentences about runs, grouped by step: data, searches, retrainings, protocols, results, software.

    Args:
        log: the run log.
        rows: the runs, from `RunLog.run`.
        tables: robustness tables that contain the attack runs among `rows`.
    """
    places = {row["id"]: read_json(RunFolder(log.root, row["id"]).environment_json) or {} for row in rows}
    attacks = [row["id"] for row in rows if row["kind"] == "attack"]
    sentences = [*_data(rows, places)]
    for kind, made, settings in (("search", "Architectures were searched with {}", SEARCH),
                                 ("retrain", "Networks of {} were trained from scratch", RETRAIN)):
        sentences += _trainings([row for row in rows if row["kind"] == kind], made, settings)
    sentences += _sizes([row for row in rows if row["kind"] == "retrain" and row["parameters"] is not None])
    sentences += _latencies(log, attacks)
    sentences += [f"Networks were attacked as follows. {protocol_text(table)}" for table in tables]
    sentences += _results(log, attacks) if len(attacks) <= MOST_RESULTS else []
    return list(dict.fromkeys([*sentences, *_software(rows, places)]))


def _data(rows: Iterable[Mapping[str, Any]], places: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for row in rows:
        place = places[row["id"]]
        known = {"hash of the data": place.get("data_hash"), "hash of the splits": place.get("split_hash")}
        hashes = ", ".join(f"{words} {value}" for words, value in known.items() if value)
        if row["kind"] != "attack":  # an attack opens only the images that its protocol names
            yield f"The dataset is {dataset_text(row['dataset'])}{f' ({hashes})' if hashes else ''}."


def _trainings(rows: Sequence[Mapping[str, Any]], made: str, settings: Mapping[str, str]) -> list[str]:
    """Return sentences about searches or retrainings. Runs whose sentences differ only in the seed share one sentence.

    Args:
        rows: the runs, from `RunLog.run`.
        made: beginning of the sentence, in which {} is the title of the run.
        settings: {name of a setting: phrase about it, in which {} is the value}. Settings without a value are left out.
    """
    seeds: dict[str, list[str]] = {}
    for row in rows:
        config = row["config"]
        natural = config.get("training") == "natural"
        words = [_phrase(text, setting_text(row, name, config[name])) for name, text in settings.items()
                 if config.get(name) not in (None, "") and not (natural and name in ADVERSARIAL)]
        alike = f"{made.format(row['title'])} (preset {row['preset']}): {', '.join(words)}"
        seeds.setdefault(alike, []).append(f"{config.get('seed')} (run {row['id']})")
    return [f"{alike}; seed{'s' if len(found) > 1 else ''} {', '.join(found)}." for alike, found in seeds.items()]


def _phrase(text: str, value: str) -> str:
    """Return the phrase of a setting, in the singular where the value is 1: "1 epoch"."""
    return re.sub(r"\b1 (\w+)s$", r"1 \1", text.format(value))


def _sizes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a list with one sentence that gives the sizes of all networks; empty without networks."""
    sizes = [f"{int(row['parameters']):,} and {int(row['macs']):,} (run {row['id']})" for row in rows]
    return [f"Parameters and multiply-accumulate operations per image: {'; '.join(sizes)}."] if sizes else []


def _latencies(log: RunLog, attacks: Sequence[str]) -> list[str]:
    """Return a list with one sentence that gives the latencies of the attacked networks; empty if none was measured."""
    measured = latencies_of(log)
    found = [f"{one.words} (run {run})" for run in attacks for one in measured.get(run, {}).values()]
    return [f"Inference latency, median of repeated forward passes in evaluation mode: {'; '.join(found)}."] if found else []


def _results(log: RunLog, attacks: Sequence[str]) -> list[str]:
    """Return one sentence per attack run: each accuracy with its interval and number of images."""
    sentences = []
    results = log.attacks()
    for run, (protocol, row) in rows_of(log, attacks).items():
        titles = dict(results.loc[(results["run"] == run), ["attack", "title"]].itertuples(index=False, name=None))
        figures = [f"{titles.get(name, name)} {accuracy_words(one.correct, one.images)} [{one.fingerprint}]"
                   for name, one in row.results.items()]
        if figures:
            sentences.append(f"The network {row.title} of run {row.parent or run} has these accuracies under protocol {protocol} "
                             f"(95 % Wilson interval, fingerprint): {'; '.join(figures)}.")
    return sentences


def _software(rows: Iterable[Mapping[str, Any]], places: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for row in rows:
        version, changed = row["code"].get("version"), bool(row["code"].get("diff"))
        if version:
            yield f"The code was at commit {version}{', with changes that are in no commit' if changed else ''}."
    for place in places.values():
        packages = ", ".join(f"{name} {value}" for name, value in place.get("versions", {}).items())
        if packages:
            yield f"The runs used {packages}, on {place.get('device', 'an unknown device')} ({place.get('platform', 'unknown')})."
