"""The measurements that an attack run makes after its attacks: a sweep and a certified bound.

The sweep measures the accuracy at several attack radii and several numbers of PGD steps. The certified bound is a lower bound
of the robust accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from engine.attack.certification import Certification
from engine.attack.evaluation import Evaluation
from engine.attack.sweep import Sweep
from engine.errors import ConfigError
from engine.run.event_kinds import KINDS
from engine.run.session import Session


class AfterAttacks:
    """The measurements that follow the attacks of an evaluation: the sweep and the certified bound.

    The sweep gives the accuracy at several attack radii and numbers of PGD steps. The certified bound is a lower bound of the
    robust accuracy. The configuration may turn off either measurement.

    Attributes:
        measurements: {name: measurement}, in the order in which the measurements are made.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        """Prepare the measurements; nothing runs yet."""
        self.measurements: dict[str, Sweep | Certification] = {}
        if evaluation.config.sweep_radii is not None:
            self.measurements["sweep"] = Sweep(evaluation)
        if Certification.applies(evaluation):
            self.measurements["certified"] = Certification(evaluation)

    @property
    def progress(self) -> tuple[float, int]:
        """The pair (completed, total) of network evaluations for the sweep and the certified bound.

        An evaluation of one image counts as 1. The total assumes that no attack succeeds.
        """
        each = [measurement.progress for measurement in self.measurements.values()]
        return sum(done for done, _ in each), sum(total for _, total in each)

    def run(self, session: Session, save: Callable[[], None]) -> None:
        """Complete the remaining measurements, the sweep and the certified bound, and write their results as events.

        Args:
            session: session of the worker.
            save: function that writes a checkpoint.

        Raises:
            StopRequested: the user stopped the run.
        """
        for measurement in self.measurements.values():
            try:
                while not measurement.over:
                    self._step(session, measurement, save)
            except ConfigError as problem:  # the network has an operation that cannot be bounded
                session.alert("warning", f"{measurement.title}: {problem}")

    def distances(self) -> pa.Table | None:
        """Return the content of results/distances.parquet, or None if the evaluation has no sweep (accuracies at several radii).

        The columns are image, label, distance and steps, as described in `Sweep.columns`.
        """
        sweep = self.measurements.get("sweep")
        if not isinstance(sweep, Sweep):
            return None
        types = {"image": pa.int64(), "label": pa.int64(), "distance": pa.float64(), "steps": pa.float64()}
        return pa.table(sweep.columns(), schema=pa.schema(types))

    def state_dict(self) -> dict[str, Any]:
        """Return {name of the measurement: its state}, for the checkpoint."""
        return {name: measurement.state_dict() for name, measurement in self.measurements.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states that `state_dict` returned. A measurement without an entry in `state` keeps its initial state.

        Raises:
            CheckpointError: the state of the sweep is for another network, or for other images, attacks or settings.
        """
        for name, measurement in self.measurements.items():
            if name in state:
                measurement.load_state_dict(state[name])

    @staticmethod
    def _step(session: Session, measurement: Sweep | Certification, save: Callable[[], None]) -> None:
        session.begin_step(1, measurement.title)
        events = measurement.step(poll=session.poll)
        session.end_step(epoch=0)
        session.activity = measurement.title
        for kind, fields in events:
            session.write(KINDS[kind](**fields))
        session.progress()
        if events or session.checkpoint_due():
            save()
