"""The certified accuracy of an evaluation: the share of its images that provably no attack in the ball can break.

Accuracy under attack is an upper bound of robust accuracy, because a stronger attack may exist; certified accuracy is a lower
bound. The truth lies between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from engine.attack.certified import BATCH, certify
from engine.attack.declaration import LINF
from engine.attack.evaluation import Evaluation
from engine.attack.statistics import wilson

METHOD = "interval bounds"


class Certification:
    """Interval bounds on all images of an evaluation, in L-infinity at its epsilon. Resumable at the block.

    Interval arithmetic bounds pixels one by one, which is the L-infinity ball. An L2 ball lies inside the L-infinity ball of the
    same radius, but bounds over that would say next to nothing; no bound is computed in L2.

    Attributes:
        evaluation: the evaluation whose network and images are bounded.
        done: number of images bounded so far.
        certified: number of those whose smallest margin over the ball is positive.
    """

    title = "Certified accuracy"

    def __init__(self, evaluation: Evaluation) -> None:
        """Prepare the bound; nothing runs yet."""
        self.evaluation = evaluation
        self.done = self.certified = 0

    @staticmethod
    def applies(evaluation: Evaluation) -> bool:
        """Return True if the configuration asks for a certified bound and the norm of the evaluation is L-infinity."""
        return evaluation.config.certify and evaluation.protocol.settings.norm == LINF

    @property
    def over(self) -> bool:
        """True when all images are bounded."""
        return self.done >= len(self.evaluation.y)

    @property
    def progress(self) -> tuple[float, int]:
        """The pair (completed, total) of network evaluations. Bounding an image counts as four, which is about its cost."""
        return 4.0 * self.done, 4 * len(self.evaluation.y)

    def step(self, poll: Callable[[], None] = lambda: None) -> list[tuple[str, dict[str, Any]]]:
        """Bound the next block of images.

        Args:
            poll: function called before each layer; it may raise StopRequested, after which the block can be repeated.

        Returns:
            After the last block, the event "certified" as its kind and its fields; otherwise nothing.

        Raises:
            ConfigError: the network has an operation without an interval form.
        """
        evaluation = self.evaluation
        block = torch.arange(self.done, min(self.done + BATCH, len(evaluation.y)), device=evaluation.y.device)
        certificate = certify(evaluation.network, evaluation.x[block], evaluation.y[block],
                              epsilon=evaluation.protocol.settings.epsilon, poll=poll)
        self.done += len(block)
        self.certified += int(certificate.certified.sum())
        return [("certified", self._result())] if self.over else []

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"done": self.done, "certified": self.certified}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the counts of `state_dict`."""
        self.done, self.certified = int(state["done"]), int(state["certified"])

    def _result(self) -> dict[str, Any]:
        low, high = wilson(self.certified, self.done)
        return {"norm": LINF, "epsilon": self.evaluation.protocol.settings.epsilon, "images": self.done,
                "correct": self.certified, "low": low, "high": high, "method": METHOD}
