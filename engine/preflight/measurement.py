"""The cost of a few measured batches, extrapolated to full batches and to a whole run. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from engine.attack.catalogue import ATTACKS
from engine.config import AttackConfig, RetrainConfig, RunConfig, SearchConfig
from engine.data.catalogue import DATASETS
from engine.data.splits import split_sizes, steps_in_epoch

LAST_FILES = 3  # the last checkpoint, the one before it, and the one being written
# Share of the images that still resist in the middle of a typical attack. The parts of a suite skip the images that have fallen.
RESISTING = 0.6
CHECKS = 1.35  # time of a run with its reliability checks, relative to its attacks; measured with the preset `quick` on digits


@dataclass(frozen=True)
class Measurement:
    """The measured cost of the batches of a run.

    Attributes:
        seconds_per_step: seconds of a step with a batch of `batch` images, averaged over the epochs of a search.
        selection_s: in a retraining, seconds to measure the accuracy on one image of the select split (images for choosing a
            checkpoint).
        forward_s: seconds of a forward pass of an attacked network for one image.
        backward_s: seconds of a backward pass for one image.
        memory: largest memory of the process, in bytes.
        device_memory: largest memory on the GPU, in bytes; 0 on a CPU.
        checkpoint: size of the checkpoint files, in bytes.
        event_bytes: bytes of events for a step.
        batch: number of images in a batch.
        rough: True if the measured batch was smaller than the run's batches, so that the numbers are extrapolated.
        upper: True if only one small batch could be measured. The time of a full batch is then taken as proportional to the
            number of images, which is an upper bound.
    """

    seconds_per_step: float = 0.0
    selection_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    memory: int = 0
    device_memory: int = 0
    checkpoint: int = 0
    event_bytes: float = 0.0
    batch: int = 0
    rough: bool = False
    upper: bool = False

    def at(self, full: int, smaller: Measurement | None) -> Measurement:
        """Return this measurement converted to batches of `full` images.

        Args:
            full: number of images in a batch of the run.
            smaller: measurement of a smaller batch. Time and memory of a full batch are extrapolated along the line through both
                measurements. None to assume that the time of a step is proportional to the batch size, and to leave the memory
                unchanged.
        """
        if self.batch == full:
            return self
        if smaller is None:
            return replace(self, seconds_per_step=self.seconds_per_step * full / self.batch, batch=full, rough=True,
                           upper=True)

        def along(low: float, high: float) -> float:
            assert smaller is not None
            return high + (high - low) * (full - self.batch) / (self.batch - smaller.batch)

        def each(low: float, high: float) -> float:
            assert smaller is not None
            return max(high * self.batch, along(low * smaller.batch, high * self.batch)) / full

        return replace(
            self, batch=full, rough=True,
            seconds_per_step=max(self.seconds_per_step, along(smaller.seconds_per_step, self.seconds_per_step)),
            selection_s=each(smaller.selection_s, self.selection_s), forward_s=each(smaller.forward_s, self.forward_s),
            backward_s=each(smaller.backward_s, self.backward_s),
            memory=round(max(self.memory, along(smaller.memory, self.memory))),
            device_memory=round(max(self.device_memory, along(smaller.device_memory, self.device_memory))))


@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    Attributes:
        seconds: duration in seconds; None if unknown.
        memory: largest memory of its process in bytes; 0 if unknown.
        device_memory: largest memory on the GPU in bytes; 0 if unknown or on a CPU.
        disk: bytes in its folder; 0 if unknown.
        source: "runs" (finished runs with the same settings), "batches" (measured batches), "similar" (finished runs with other
            settings), "table" (our own measurements) or "".
        rough: True if full batches were extrapolated.
        upper: True if `seconds` is an upper bound.
    """

    seconds: float | None = None
    memory: int = 0
    device_memory: int = 0
    disk: int = 0
    source: str = ""
    rough: bool = False
    upper: bool = False


def cost_of(config: RunConfig, measured: Measurement) -> Cost:
    """Return the cost of a whole run from its measured batches."""
    data, sizes = DATASETS[config.dataset], split_sizes(config.dataset, config.images)
    steps = 0.0
    if isinstance(config, AttackConfig):
        seconds = attack_seconds(config, measured)
    elif isinstance(config, RetrainConfig):
        steps = config.epochs * steps_in_epoch(sizes["weights"] + sizes["alphas"], config.batch_size, config.steps_per_epoch)
        selections = math.ceil(config.epochs / config.selection_every)
        seconds = steps * measured.seconds_per_step + selections * sizes["select"] * measured.selection_s
    else:
        assert isinstance(config, SearchConfig)
        images = min(sizes["weights"], sizes["alphas"]) if config.on_supernet else sizes["weights"]
        steps = config.epochs * steps_in_epoch(images, config.batch_size, config.steps_per_epoch)
        seconds = steps * measured.seconds_per_step
    held = data.images if config.images is None else min(data.images, 4 * config.images)
    disk = LAST_FILES * measured.checkpoint + round(max(steps, 1) * measured.event_bytes)
    return Cost(seconds, measured.memory + held * math.prod(data.image_shape), measured.device_memory, disk, "batches",
                measured.rough, measured.upper)


def attack_seconds(config: AttackConfig, measured: Measurement) -> float:
    """Return the expected duration of an attack run.

    The first part of a suite such as AutoAttack attacks all images of the suite. Each later part is assumed to attack only the
    share `RESISTING` of them, because the other images are broken already.
    """
    images, classes = split_sizes(config.dataset, config.images)["test"], DATASETS[config.dataset].classes
    few = min(images, config.autoattack_images or images)
    seconds = images * measured.forward_s
    for name in config.attacks:
        attack = ATTACKS[name]
        for number, part in enumerate(attack.parts or (attack,)):
            passes = part.passes(classes)
            share = 1.0 if number == 0 else RESISTING
            each = passes.forward * measured.forward_s + passes.backward * measured.backward_s
            seconds += (few if attack.parts or config.worst_case_only else images) * share * each
    return seconds * (CHECKS if config.checks else 1.0)
