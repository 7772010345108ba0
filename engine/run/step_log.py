"""The log of a retraining's steps. It reads the numbers of the steps from the device together, some time after the steps.

To read a number, the host waits until a GPU has computed everything up to this number. While it waits, it launches nothing, and
then the GPU waits for the host. Therefore a retraining on a GPU reads its numbers a few times a second instead of at every step.
On a CPU, which has computed a number before the step returns, every step is read at once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from engine.config import RetrainConfig
from engine.errors import RunError
from engine.run.event_kinds import Metric
from engine.run.session import PROGRESS_EVERY_S, Session
from engine.train import schedule
from engine.train.retrain import Measured, StepReport, reports


@dataclass(frozen=True)
class Step:
    """A training step whose numbers are not read yet.

    Attributes:
        number: number of the step in the run, from 1.
        epoch: epoch of the step, from 0.
        position: position of the step in its epoch, from 0.
        images: number of images in the batch.
        started: time at which the step began, by `time.perf_counter`.
        measured: the numbers on the device.
    """

    number: int
    epoch: int
    position: int
    images: int
    started: float
    measured: Measured


class StepLog:
    """Writer of the events of training steps.

    Attributes:
        every_s: seconds for which a step may stay unwritten. On a CPU 0, so that every step is written at once.
    """

    def __init__(self, session: Session, config: RetrainConfig, steps_per_epoch: int) -> None:
        """Begin without steps.

        Args:
            session: session of the worker.
            config: settings of the run.
            steps_per_epoch: number of steps in an epoch, for the learning rate.
        """
        self.session, self.config, self.steps_per_epoch = session, config, steps_per_epoch
        self.every_s = 0.0 if session.device == "cpu" else PROGRESS_EVERY_S
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Add a step. If the oldest unwritten step began at least `every_s` seconds ago, write all unwritten steps.

        Raises:
            RunError: a loss is not finite; see `write`.
        """
        self._steps.append(step)
        if time.perf_counter() - self._steps[0].started >= self.every_s:
            self.write()

    def write(self) -> None:
        """Read the numbers of all unwritten steps from the device, and write one event for each step.

        Call this before a checkpoint, so that the events cover its steps, and before a measurement, so that events stay in order.

        Raises:
            RunError: a loss is NaN or infinite. The steps before it are written.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        read = reports([step.measured for step in steps])
        # On a GPU, only the time of all these steps together is known.
        images_per_s = sum(step.images for step in steps) / (time.perf_counter() - steps[0].started)
        for step, report in zip(steps, read, strict=True):
            if not math.isfinite(report.loss):
                raise RunError(f"The training loss must be finite, got {report.loss} in step {step.number} (epoch "
                               f"{step.epoch + 1}); launch the retraining again with a smaller learning rate.")
            self.session.write(self._event(step, report, images_per_s), step=step.number, epoch=step.epoch + 1)

    def _event(self, step: Step, report: StepReport, images_per_s: float) -> Metric:
        values = {"train_loss": report.loss, "train_accuracy": report.natural_accuracy,
                  "train_adversarial_accuracy": report.adversarial_accuracy,
                  "learning_rate": schedule.learning_rate(self.config, step.epoch, step.position, self.steps_per_epoch),
                  "images_per_s": round(images_per_s, 3)}
        return Metric(split="weights", statistics="batch",
                      values={name: value for name, value in values.items() if value is not None})
