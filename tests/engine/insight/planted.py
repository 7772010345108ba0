"""Runs with planted findings: searches with given architecture weights, retrainings with given accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.architecture.genotype import PRIMITIVES, derive_genotype
from tests.sample_runs import EventsFile, write_end, write_run_json

KINDS = ("robust", "reduce", "accurate")
EDGES, OPERATIONS = 14, len(PRIMITIVES)
SEARCH, RETRAIN = "20261118-1000-arnas-digits-1a01", "20261118-1000-retrain-digits-1a02"
STEPS = 4  # of an epoch
Alphas = Mapping[str, npt.NDArray[np.float64]]


def alphas_of(strength: float = 2.0, *, operation: str = "sep_conv_5x5", **kinds: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return {cell kind: alphas [14, 7]} with one strong operation on every edge, later edges slightly stronger.

    Args:
        strength: alpha of the strong operation; the others are 0.
        operation: the strong operation.
        kinds: the strong operation of single cell kinds, if it is another one.
    """
    found = {}
    for kind in KINDS:
        alpha = np.zeros((EDGES, OPERATIONS))
        alpha[:, PRIMITIVES.index(kinds.get(kind, operation))] = strength + 1e-3 * np.arange(EDGES)
        found[kind] = alpha
    return found


def write_alphas(events: EventsFile, alphas: Alphas) -> None:
    """Write the alphas of all cell kinds at the file's current step."""
    for kind, alpha in alphas.items():
        events.write("alpha", cell=kind, primitives=list(PRIMITIVES), alpha=alpha.tolist())


def write_genotype(events: EventsFile, alphas: Alphas) -> None:
    """Write the genotype derived from the alphas."""
    weights = {kind: np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True) for kind, alpha in alphas.items()}
    found = derive_genotype({kind: one.tolist() for kind, one in weights.items()})
    events.write("genotype", genotype=found.to_dict(), hash=found.hash)


def write_objectives(events: EventsFile, weight: float, *, norms: Sequence[float] = (0.05, 0.03), cosine: float = 0.5) -> None:
    """Write the weights of the natural and the adversarial loss in one step; `weight` is that of the natural loss."""
    events.write("objectives", names=["natural", "adversarial"], losses=[1.5, 0.25], weights=[weight, 1 - weight],
                 norms=list(norms), cosines=[[1.0, cosine], [cosine, 1.0]])


def write_search(root: Path, epochs: Sequence[Alphas], *, run: str = SEARCH, weight: float = 0.4, ended: str = "finished",
                 created: float | None = None, changes: dict[str, Any] | None = None, method: str = "arnas") -> Path:
    """Write a search with the alphas at the start and at the end of each epoch; every epoch has `STEPS` steps.

    Args:
        epochs: alphas before the first step, and at the end of each epoch.
        weight: weight of the natural loss in every step.
        ended: "finished", "failed", or "" for a run whose process is the one that calls this function.
        created: time of creation and of the first event, Unix time; None for a time long ago.
    """
    at = {} if created is None else {"created": created}
    folder = write_run_json(root, run, "search", method=method, changes=changes, **at)
    events = EventsFile(folder, **({} if created is None else {"t": created}))
    write_alphas(events, epochs[0])
    write_genotype(events, epochs[0])
    for alphas in epochs[1:]:
        events.epoch += 1
        for position in range(STEPS):
            events.step += 1
            events.write("progress", phase="search", done=events.step, total=STEPS * (len(epochs) - 1), unit="steps", passes=9,
                         detail="")
            events.write("metric", split="alphas", statistics="batch", values={
                "natural_loss": 1.5, "natural_accuracy": 0.5, "adversarial_loss": 2.0, "adversarial_accuracy": 0.3})
            write_objectives(events, weight)
            if position == STEPS - 1:
                write_alphas(events, alphas)
                write_genotype(events, alphas)
    write_end(folder, events, ended)
    return folder


def write_retraining(root: Path, select: Sequence[float], train: Sequence[float], *, run: str = RETRAIN,
                     ended: str = "finished", created: float | None = None, loss: float | None = 1.0) -> Path:
    """Write a retraining with these adversarial accuracies on the select split and on the training batches, by epoch."""
    at = {} if created is None else {"created": created}
    folder = write_run_json(root, run, "retrain", changes={"genotype": "ARNAS"}, **at)
    events = EventsFile(folder, **({} if created is None else {"t": created}))
    for measured, trained in zip(select, train, strict=True):
        events.epoch += 1
        for _ in range(STEPS):
            events.step += 1
            events.write("progress", phase="retrain", done=events.step, total=STEPS * len(select), unit="steps", passes=9)
            events.write("metric", split="weights", statistics="batch", values={
                "train_loss": loss, "train_accuracy": 0.8, "train_adversarial_accuracy": trained})
        events.write("metric", split="select", statistics="running", values={
            "natural_loss": 0.4, "natural_accuracy": 0.9, "adversarial_loss": 1.2, "adversarial_accuracy": measured})
    write_end(folder, events, ended)
    return folder
