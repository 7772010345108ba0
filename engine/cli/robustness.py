"""The verbs `sweep` and `transfer`, which launch special attack runs and print the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from engine import api
from engine.attack.badge import Badge
from engine.attack.protocol import NORM_TITLES
from engine.attack.statistics import accuracy_words, share_words
from engine.cli.waiting import Bars, watched
from engine.config import AttackConfig, pixels_text
from engine.configuring import recorded
from engine.errors import ConfigError
from engine.report.words import badge_text
from engine.run.events import read_events
from engine.run.folder import RunFolder
from engine.run.recorded_badge import recorded_badge

MAKERS = ("mi-fgsm", "apgd-ce")
# Settings of an evaluation that these verbs switch off: they measure one thing.
EXTRAS = ("certify", "checks")
# Settings that a sweep takes from the attack run that it is asked for.
SHARED = ("checkpoint", "norm", "epsilon", "step_size", "epsilon_l2", "step_size_l2", "images", "seed", "batch_size", "device",
          "threads")


def sweep(run: str, radii: int, root: Path, wait: bool, as_json: bool) -> int:
    """Launch an attack run that measures only a sweep: the accuracy of a network against radius and PGD steps.

    Args:
        run: id of a retraining or of an attack run. For an attack run, the sweep has the same network and conditions.
        radii: number of radii at which the accuracy is reported.
        root: folder of all runs.
        wait: True to wait until the sweep is over and print its accuracies.
        as_json: True to print JSON.

    Returns:
        Exit code: 1 if the run failed or was stopped, 130 if the user interrupted the wait, 0 otherwise.

    Raises:
        ConfigError, RunError: the run does not exist, is a search, or cannot be attacked.
    """
    above = RunFolder(root, run).read_run()
    if above["kind"] not in ("retrain", "attack"):
        raise ConfigError(f"A sweep needs a retraining or an attack, got the {above['kind']} run {run}; `rampart runs` lists the "
                          "ids.")
    is_attack = above["kind"] == "attack"
    inert = recorded(above).inert()
    kept = [name for name in SHARED if name in above["config"] and name not in inert] if is_attack else []
    shared = {name: above["config"][name] for name in kept}
    ids = api.launch("attack", runs=root, dataset=above["config"]["dataset"], preset=above["preset"],
                     parent=above["parent"] if is_attack else run,
                     changes={**shared, **_extras_off(), "attacks": (), "sweep_radii": radii})
    if not wait:
        print(json.dumps({"ids": ids}) if as_json else ids[0])
        return 0
    if not (code := _ended(ids, root, as_json)):
        _print_sweep(ids[0], _events(root, ids[0]), as_json)
    return code


def transfer(targets: Sequence[str], maker: str, root: Path, as_json: bool) -> int:
    """Attack each network with images made on each network, wait, and print the matrix of results.

    The entries on the diagonal use images made on the attacked network itself. A second call with the same networks reads the
    results of the first call.

    Args:
        targets: ids of the retrainings.
        maker: attack that makes the images, one of `MAKERS`.
        root: folder of all runs.
        as_json: True to print JSON.

    Returns:
        Exit code: 1 if a run failed or was stopped, 130 if the user interrupted the wait, 0 otherwise.

    Raises:
        ConfigError, RunError: fewer than two networks are given, the networks have different test images, or a network cannot be
            attacked.
    """
    above = {target: RunFolder(root, target).read_run() for target in targets}
    if len(above) < 2 or len(above) < len(targets):
        raise ConfigError(f"A transfer matrix needs at least two different networks, got {', '.join(targets)}; name their "
                          "retrainings.")
    conditions = {target: [run["config"].get(name) for name in ("dataset", "split_seed", "images")]
                  for target, run in above.items()}
    if len({str(values) for values in conditions.values()}) > 1:
        listed = "; ".join(f"{target}: {values}" for target, values in conditions.items())
        raise ConfigError(f"The networks of a transfer matrix must share dataset, split seed and number of images, got {listed}; "
                          "choose others.")
    first = above[targets[0]]
    runs = {}
    for target in targets:
        others = tuple(sorted(set(targets) - {target}))
        changes = {**_extras_off(), "attacks": (maker,), "transfer_from": others, "transfer_attack": maker, "sweep_radii": None}
        (runs[target],) = api.launch("attack", runs=root, dataset=first["config"]["dataset"], preset=first["preset"],
                                     parent=target, changes=changes, key=f"transfer {maker} {target} from {' '.join(others)}")
    if not (code := _ended(list(runs.values()), root, as_json)):
        events = {target: _events(root, run) for target, run in runs.items()}
        cells, reliability = _cells(events), _badge(chain.from_iterable(events.values()))
        if as_json:
            print(json.dumps({"attack": maker, "runs": runs, "cells": cells, "badge": asdict(reliability)}))
        else:
            _print_matrix(targets, {target: str(run.get("title", "")) for target, run in above.items()}, cells)
            print(badge_text(reliability))
    return code


def _extras_off() -> dict[str, bool]:
    return {name: False for name in EXTRAS if name in AttackConfig.model_fields}


def _ended(ids: Sequence[str], root: Path, quiet: bool) -> int:
    """Wait until the runs have ended, and return the exit code.

    The exit code is 0 if all runs have finished, 1 if a run failed or was stopped, 130 if the user interrupted the wait.
    """
    states = watched(Bars(root, ids, quiet), ids, root)
    if states is None:
        return 130
    failed = {run_id: state for run_id, state in states.items() if state.status != "finished"}
    if failed and quiet:
        print(json.dumps({"ids": list(ids), "runs": {run_id: {"status": state.status, "cause": state.cause}
                                                     for run_id, state in failed.items()}}))
    elif failed:
        print("\n".join(f"{run_id}  {state.status}: {state.cause}" for run_id, state in failed.items()))
    return 1 if failed else 0


def _events(root: Path, run: str) -> list[dict[str, Any]]:
    """Return the valid events of a run.

    A run that was resumed from a checkpoint repeats the steps after that checkpoint. For these steps, only the events of the
    repetition are returned.
    """
    kept: list[dict[str, Any]] = []
    for event in read_events(RunFolder(root, run).events)[0]:
        if event.get("event") == "resumed":
            kept = [one for one in kept if one.get("step", 0) <= event["from_step"]]
        kept.append(event)
    return kept


def _print_sweep(run: str, events: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    names = ("sweep", "attack", "title", "norm", "epsilon", "steps", "images", "correct", "low", "high", "fingerprint")
    points = [{name: event[name] for name in names} for event in events if event["event"] == "sweep"]
    (critical,) = (event for event in events if event["event"] == "critical")
    reliability = _badge(events)
    if as_json:
        ends = {name: critical.get(name) for name in ("median", "low", "high")}
        print(json.dumps({"id": run, "points": points, "critical_epsilon": ends, "badge": asdict(reliability)}))
        return
    print(f"{run}  accuracy in {NORM_TITLES[critical['norm']]} with 95 % Wilson intervals")
    for heading, lines in _curves(points, critical["attack"]):
        print("\n".join([heading, *lines]))
    median, low, high = (_distance(critical.get(name)) for name in ("median", "low", "high"))
    print(f"Median critical epsilon {median} (95 % {low} to {high}), {critical['images']:,} images, {badge_text(reliability)}")


def _curves(points: Sequence[Mapping[str, Any]], nearest: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (heading, lines) for each list of accuracies that a sweep has measured. Each line gives one accuracy.

    * Accuracy against epsilon, the attack radius.
    * Accuracies under other attacks, which are run separately at some of the radii, as a check of the first list.
    * Accuracy against the number of attack steps, at one radius.

    Args:
        points: fields of the run's `SweepPoint` events.
        nearest: name of the attack of the first list. It searches for the nearest adversarial images.
    """
    of_radius = [point for point in points if point["sweep"] == "epsilon"]
    curve = [point for point in of_radius if point["attack"] == nearest]
    marks = [point for point in of_radius if point["attack"] != nearest]
    steps = [point for point in points if point["sweep"] != "epsilon"]
    for heading, chosen, of_steps in (
            ("Against epsilon, {title}, {count} radii:", curve, False),
            ("Marks that check this curve, {title}, a run of its own at each radius:", marks, False),
            ("Against steps, {title} at epsilon {epsilon}:", steps, True)):
        if chosen:
            first = chosen[0]
            lines = [f"  {point['steps']} steps".ljust(20) if of_steps else f"  epsilon {pixels_text(point['epsilon'])}".ljust(20)
                     for point in chosen]
            yield (heading.format(title=first["title"], count=len(chosen), epsilon=pixels_text(first["epsilon"])),
                   [line + accuracy_words(point["correct"], point["images"]) for line, point in zip(lines, chosen, strict=True)])


def _badge(events: Iterable[Mapping[str, Any]]) -> Badge:
    """Return the reliability badge for the results of one or several runs.

    Args:
        events: all events of these runs.
    """
    return recorded_badge([event for event in events if event["event"] == "check"])


def _distance(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _cells(events: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the cells of the transfer matrix as dicts.

    Each cell is the accuracy of one network on images made on the same or another network.

    A cell has the keys attack, images, correct, accuracy, low, high, fingerprint and:

    * source: the network on which the adversarial images were made.
    * target: the network that was attacked with these images.

    Args:
        events: {target: events of its attack run}.
    """
    hashes = {next(event["network"] for event in of_run if event["event"] == "evaluation"): target
              for target, of_run in events.items()}
    cells = []
    for target, of_run in events.items():
        for row in of_run:
            if row["event"] != "attack" or row.get("part_of") or row["attack"] in ("natural", "worst-case"):
                continue
            source = hashes[row["fields"]["source"]] if row["attack"].startswith("transfer-") else target
            cells.append({"source": source, "target": target} | {
                name: row[name] for name in ("attack", "images", "correct", "accuracy", "low", "high", "fingerprint")})
    return cells


def _print_matrix(targets: Sequence[str], titles: Mapping[str, str], cells: Sequence[Mapping[str, Any]]) -> None:
    """Print the transfer matrix. An entry is the accuracy of the row's network on images made on the column's network.

    Args:
        targets: ids of the retrainings, in the order of the rows and columns.
        titles: {id of a retraining: title}.
        cells: one dict for each pair of a target (row) and a source (column), with the keys target, source, correct and images.
    """
    texts = {(cell["target"], cell["source"]): share_words(cell["correct"], cell["images"]) for cell in cells}
    numbers = {target: str(position + 1) for position, target in enumerate(targets)}
    print(f"Accuracy of each network (line) on images made on each network (column), {cells[0]['images']} images, 95 % intervals")
    print("   " + "".join(f"{number:<26}" for number in numbers.values()).rstrip())
    for target in targets:
        print(f"{numbers[target]:<3}" + "".join(f"{texts[target, source]:<26}" for source in targets).rstrip())
    print("\n".join(f"{numbers[target]}  {target}  {titles[target]}" for target in targets))
