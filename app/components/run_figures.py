"""The newest numbers of a run: accuracies with the splits on which they were measured, and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import pandas as pd

from app.charts import objectives
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.progress import figure_html
from app.components.run_candidates import measured_split
from app.components.run_curves import on_supernet
from app.components.run_header import ACTIVE
from app.formats import capitalised, count, escape, interval, percent, plural, shown
from engine.log import RunLog

WHERE = {"alphas": "alphas split, batch statistics", "select": "select split, running statistics",
         "weights": "training batches"}
FIGURES = {"natural_accuracy": "Natural accuracy", "adversarial_accuracy": "Adversarial accuracy", "natural_loss": "Natural loss",
           "adversarial_loss": "Adversarial loss", "train_loss": "Training loss"}

# Description of the training loss of a retraining, by the value of its setting `training`.
TRAINING_LOSSES = {"natural": "on natural images", "trades": "TRADES: natural + β KL"}
NO_RESULT = "not a result"  # accuracies of searches and retrainings, which guide the run


def mean_of(epochs: Sequence[int]) -> str:
    """Return a phrase naming the epochs whose means are shown, for example "mean of epoch 3" or "means of epochs 3 and 4".

    Args:
        epochs: epoch of each mean. Repeated epochs are named once.
    """
    distinct = list(dict.fromkeys(map(str, epochs)))
    return f"mean of epoch {distinct[0]}" if len(distinct) == 1 else f"means of epochs {' and '.join(distinct)}"


def figures(run: dict[str, Any]) -> None:
    """Show the newest accuracies and losses of a run."""
    live_html(feed_of(f"training:{run['id']}", figures_of, run), key="run_figures", live=run["status"] in ACTIVE)


def figures_of(log: RunLog, run: dict[str, Any]) -> str:
    """Return the newest accuracies and losses of a run as HTML; "" if there are none.

    Notes name the splits of the measurements. The accuracies of a search belong to its supernet or its best candidate,
    not to the network that is retrained.
    """
    if run["kind"] == "search" and not on_supernet(run):
        return _candidate_figures(log, run)
    latest = newest(log.curves(run["id"]))
    further = objectives.further(log.objective_names(run["id"]))
    titles = FIGURES | {f"{name}_loss": capitalised(objectives.title_of(name)) for name in further}
    measured = sorted((name for name in titles if name in latest), key="train_loss".__eq__)  # which comes last
    if not measured:
        return ""
    notes = {f"{name}_loss": objectives.unit_of(name) for name in further}
    notes |= _notes(log, run, {name: latest[name][0] for name in measured})
    boxes = [figure_html(titles[name], _value(name, latest[name][1]), notes.get(name, "")) for name in measured]
    epochs: dict[str, list[int]] = {}
    for split, _, epoch in (latest[name] for name in measured):
        epochs.setdefault(split, []).append(epoch)
    so_far = " so far" if run["status"] in ACTIVE else ""
    of = "Network" if run["kind"] != "search" else "Supernet"
    return _boxes_html(boxes, [
        f"{'Training' if split == 'weights' else of}: {WHERE.get(split, split)}, {mean_of(numbers)}{so_far}"
        for split, numbers in epochs.items()])


def _candidate_figures(log: RunLog, run: dict[str, Any]) -> str:
    """Return the accuracies of a search's best candidate, and the newest training loss of the search, as HTML."""
    latest, measured = newest(log.curves(run["id"])), log.candidates(run["id"])
    boxes, notes = [], []
    if len(measured):
        best, under = measured.iloc[0], shown(_attack(log, run))
        boxes = [_accuracy(best, "natural", ""), _accuracy(best, "adversarial", f"under {under}" if under else "")]
        which = "First" if best["ranking"] == "none" else "Best"
        so_far = "" if run["status"] == "finished" else " so far"
        notes = [f"{which} of {plural(len(measured), 'candidate')}{so_far}: candidate {best['candidate']}, "
                 f"{measured_split(log, run['id'])} split, running statistics"]
    if "train_loss" in latest:
        _, loss, epoch = latest["train_loss"]
        boxes.append(figure_html(FIGURES["train_loss"], _value("train_loss", loss)))
        notes.append(f"Training: newest candidate, {WHERE['weights']}, {mean_of([epoch])}")
    return _boxes_html(boxes, notes)


def _accuracy(candidate: pd.Series, name: str, under: str) -> str:
    """Return an accuracy as HTML, with its interval and its attack. `candidate` is a row of `RunLog.candidates`."""
    note = ", ".join(filter(None, (interval(candidate[f"{name}_low"], candidate[f"{name}_high"]),
                                   plural(int(candidate["images"]), "image"), under, NO_RESULT)))
    return figure_html(FIGURES[f"{name}_accuracy"], percent(candidate[name]), note)


def _boxes_html(boxes: Sequence[str], notes: Sequence[str]) -> str:
    if not boxes:
        return ""
    return f'<div class="rp-figures">{"".join(boxes)}</div><p class="rp-label rp-below">{escape(". ".join(notes))}.</p>'


def _notes(log: RunLog, run: dict[str, Any], splits: Mapping[str, str]) -> dict[str, str]:
    """Return {name of a metric: note below its value}.

    The note of an accuracy names its split and says that an accuracy on this split is not a result. The note of an adversarial
    accuracy also names the attack. For a retraining, the note of the training loss says what this loss consists of.

    Args:
        log: the run log.
        run: row of the run, from `RunLog.runs`.
        splits: {name of a metric: split on which it was measured}.
    """
    notes = {name: f"{split} split, {NO_RESULT}" for name, split in splits.items() if name.endswith("_accuracy")}
    if "adversarial_accuracy" in notes and (attack := shown(_attack(log, run))):
        under = f"under {attack}" if attack.startswith("PGD") else f"attacked in {attack}"
        notes["adversarial_accuracy"] = f"{under}, {notes['adversarial_accuracy']}"
    if run["kind"] != "retrain":
        return notes
    config = log.configs([run["id"]]).get(run["id"], {})
    return notes | {"train_loss": TRAINING_LOSSES.get(str(config.get("training")), "on attacked images")}


def _attack(log: RunLog, run: dict[str, Any]) -> Any:
    """Return the name of the attack under which the adversarial accuracy of a run was measured.

    If the row `run` was read before the attack was known, look the name up in the run log.
    """
    return run["adversarial_attack"] or log.run(run["id"])["adversarial_attack"]


def _value(name: str, value: float) -> str:
    if "accuracy" in name:
        return percent(value)
    return count(value) if abs(value) >= 1000 else f"{value:.3f}"


def newest(curves: pd.DataFrame) -> dict[str, tuple[str, float, int]]:
    """Return {name of a metric: (split, value, epoch)} with the newest value of each metric.

    Args:
        curves: means over epochs, from `RunLog.curves`.
    """
    points = list(zip(*(curves[column].tolist() for column in ("step", "name", "split", "value", "epoch")), strict=True))
    return {name: (split, value, epoch) for _, name, split, value, epoch in sorted(points, key=itemgetter(0))}
