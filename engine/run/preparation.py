"""Code shared by the loops of searches, retrainings and attacks: setup before the first step, checkpoints and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.architecture.network import Network
from engine.configuring import recorded
from engine.data.catalogue import DATASETS, image_source
from engine.data.dataset import Dataset
from engine.data.loading import Images, load_split
from engine.data.splits import Splits, splits_of
from engine.errors import ConfigError, RunError, StopRequested
from engine.run import checkpoint, environment
from engine.run.event_kinds import NetworkBuilt
from engine.run.events import begins_with
from engine.run.leftovers import remove_unfinished
from engine.run.session import Session


@dataclass(frozen=True)
class Prepared:
    """Everything that a loop needs before it builds its network.

    Attributes:
        config: the validated configuration of the run.
        dataset: the run's dataset.
        splits: splits of the dataset. A run has the same splits as its parent run, so that no training image is ever attacked.
        second: (dataset, splits) of the out-of-distribution images; None if the run uses no such images.
        state: content of the checkpoint to resume from; None if the run starts at the first step.
        device: the device to compute on.
    """

    config: Any
    dataset: Dataset
    splits: Splits
    second: tuple[Dataset, Splits] | None
    state: dict[str, Any] | None
    device: torch.device

    def load(self, *names: str) -> tuple[Images, Tensor]:
        """Load the named splits, joined into one set.

        Returns:
            The images. Every batch taken from them is on `device`.
            The labels, on `device`.
        """
        return load_split(self.dataset, self.splits, names, self.device)


def prepare(session: Session) -> Prepared:
    """Read the configuration and the splits of a run, and check the environment.

    On the first attempt (start of the worker), the environment is recorded. On a later attempt:

    - The environment is compared with the record.
    - The checkpoint is loaded, and the session's progress is set to the progress at the checkpoint.
    - events.jsonl is opened. On the first attempt, it is open already.

    Raises:
        ConfigError: the recorded configuration is not valid.
        RunError: the device does not exist, the images or splits have changed since the first start, a file cannot be read, or
            the folder of the run is gone.
        CheckpointError: there are checkpoints but none can be read, or the checkpoint belongs to another run.
    """
    run = session.run
    environment.prepare(session.threads_each, session.device)
    try:
        config = recorded(run)
    except ConfigError as problem:
        raise ConfigError(f"run.json of run {session.folder.id} must hold valid settings and does not. {problem}") from None
    dataset = DATASETS[config.dataset]
    splits = splits_of(dataset, config.split_seed, config.images)
    others = map(image_source, config.datasets()[1:])
    second = next(((other, splits_of(other, config.split_seed, config.images)) for other in others), None)
    for written in (session.folder.checkpoint, session.folder.results):
        remove_unfinished(written)
    state, problems = (None, []) if session.attempt == 1 else checkpoint.load(
        session.folder.checkpoint, has_events=partial(begins_with, session.folder.events))
    if state is not None:
        with checkpoint.fitting(f"checkpoint/last.pt of run {session.folder.id} must record the progress of the run"):
            session.step, session.epoch, session.passes = int(state["step"]), int(state["epoch"]), int(state["passes"])
    if session.attempt > 1:
        session.open_events(from_step=session.step)
    for sentence in problems:
        session.alert("warning", sentence)
    session.check_folder()
    different = environment.fix(session.folder, threads=session.threads, device=session.device, dataset=dataset,
                                split_hash=splits.hash, second=second and (second[0], second[1].hash),
                                processes=session.processes)
    for sentence in different:
        session.alert("warning", sentence)
    session.begin()
    return Prepared(config, dataset, splits, second, state, torch.device(session.device))


def save(session: Session, *, weights: bool = True, **state: Any) -> None:
    """Write the progress of the run and the state of its loop to the checkpoint last.pt.

    The events so far are flushed to disk first, so that a power cut never leaves a checkpoint without the events that it covers.

    Args:
        session: session of the worker.
        weights: True if the state holds weights, so that all numbers must be finite. False for the state of an attack, in which
            the distance of an adversarial image is infinite until one is found.
        state: values of the loop's state, keyed by name.

    Raises:
        OSError: the disk is full.
        RunError: `weights` is True and a number in the state is NaN or infinite, or the folder of the run is gone. The earlier
            checkpoint is kept.
    """
    if weights and not _is_finite(state):
        raise RunError(f"Every weight must be finite, got NaN or infinity at step {session.step} (epoch {session.epoch}); launch "
                       "the run again with a smaller learning rate.")
    session.check_folder()
    events = session.sync_events()
    checkpoint.save(session.folder.checkpoint, {
        "step": session.step, "epoch": session.epoch, "passes": session.passes, "events_bytes": events.length,
        "events_crc32": events.crc32, **state})
    session.checkpoint_written()


@contextmanager
def at_work(session: Session, save_state: Callable[[], None]) -> Iterator[None]:
    """Report progress before and after a `with` block. The block runs the steps of a loop.

    If the block raises `StopRequested`, the step in progress is abandoned and `save_state` is called.

    Args:
        session: session of the worker.
        save_state: function that writes a checkpoint.

    Raises:
        StopRequested: raised again after the checkpoint has been written.
    """
    session.progress(force=True)
    try:
        yield
    except StopRequested:
        session.passes = session.passes_at_start_of_step
        save_state()
        raise
    session.activity = "finished"
    session.progress(force=True)


def write_network(session: Session, network: Network) -> None:
    """Write an event that describes the network that the run trains or attacks."""
    session.write(NetworkBuilt.of(network))


def _is_finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return all(map(_is_finite, state)) if isinstance(state, (list, tuple)) else True
