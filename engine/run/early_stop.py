"""The early-stop rules of a run. The run's loop reports its progress to them, and they tell the loop whether the run has to end.

The settings are in `engine.config.early_stop`. A run that a rule ends counts as finished, and the runs that follow it start. The
state of the rules is part of the checkpoint, so that a resumed run ends at the same step as an uninterrupted run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from engine.architecture.genotype import Genotype
from engine.config import RunConfig
from engine.config.early_stop import EARLY_STOPS


class EarlyStop:
    """The early-stop rules of one run.

    Attributes:
        reason: why the run has to end, as a part of a sentence; "" as long as it need not end.
    """

    def __init__(self, config: RunConfig, state: Mapping[str, Any] | None) -> None:
        """Start the rules' counts at 0, or continue with the counts stored in a checkpoint.

        Args:
            config: configuration of the run, with the rules.
            state: content of the checkpoint from which the run continues; None at the first step.
        """
        rules: dict[str, Any] = {name: getattr(config, name, None) for name in EARLY_STOPS}
        self._minutes, self._unchanged = rules["stop_minutes"], rules["stop_unchanged"]
        self._share, self._without_gain = rules["stop_parameter_free"], rules["stop_without_gain"]
        self._is_on = any(rule is not None for rule in rules.values())
        earlier = dict((state or {}).get("early_stop", {}))
        self.reason = str(earlier.get("reason", ""))
        self._genotype, self._streak = str(earlier.get("genotype", "")), int(earlier.get("streak", 0))
        self._begun = time.monotonic() - float(earlier.get("seconds", 0.0))

    def state(self) -> dict[str, Any]:
        """Return the entry for the checkpoint; an empty dict if no rule is on."""
        if not self._is_on:
            return {}
        return {"early_stop": {"reason": self.reason, "genotype": self._genotype, "streak": self._streak,
                               "seconds": time.monotonic() - self._begun}}

    def after_step(self) -> None:
        """Apply the limit on the computing time."""
        if self._minutes is not None and time.monotonic() - self._begun >= 60 * self._minutes:
            self.reason = self.reason or f"the time of {self._minutes:g} min is used up"

    def after_epoch_of_search(self, genotype: Genotype) -> None:
        """Apply the rules about the derived genotype after an epoch that trained the architecture weights."""
        self._streak = self._streak + 1 if genotype.hash == self._genotype else 0
        self._genotype = genotype.hash
        if self._unchanged is not None and self._streak >= self._unchanged:
            self.reason = self.reason or f"genotype unchanged for {_epochs(self._unchanged)}"
        free, operations = genotype.parameter_free
        if self._share is not None and free >= self._share * operations:
            self.reason = self.reason or f"{free} of {operations} operations are free of parameters"

    def after_measurement(self, epoch: int, best_epoch: int) -> None:
        """Apply the rule that ends a retraining if its best checkpoint has not improved for a number of epochs.

        Args:
            epoch: epoch that has just been measured.
            best_epoch: epoch of the best checkpoint so far.
        """
        if self._without_gain is not None and epoch - best_epoch >= self._without_gain:
            self.reason = self.reason or f"no better checkpoint for {_epochs(epoch - best_epoch)}"

    def sentence(self, epoch: int, epochs: int) -> str:
        """Return why the run has finished early, for example "Finished early: ..., after epoch 12 of 50."; "" if it has not."""
        return f"Finished early: {self.reason}, after epoch {epoch} of {epochs}." if self.reason else ""


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
