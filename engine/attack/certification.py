"""The certified accuracy of an evaluation: the fraction of images that provably no attack in the ball can break.

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
from engine.lanes import Lanes

METHOD = "interval bounds"


class Certification:
    """Certification of an evaluation's images by interval bounds, in L-infinity and at the evaluation's epsilon.

    An image is certified if bounds on the logits prove that no point of the ball around the image is misclassified.
    If a certification is interrupted, it can continue at the next block of images.

    No bound is computed in L2. Interval arithmetic bounds each pixel separately and would therefore have to use the L-infinity
    ball of the same radius, which is much larger than the L2 ball.

    Attributes:
        evaluation: the evaluation whose images are certified.
        done: number of images processed so far.
        certified: number of processed images that are certified.
    """

    title = "Certified accuracy"

    def __init__(self, evaluation: Evaluation) -> None:
        """Prepare the certification; nothing runs yet."""
        self.evaluation = evaluation
        self.done = self.certified = 0

    @staticmethod
    def applies(evaluation: Evaluation) -> bool:
        """Return True if the configuration requests a certified bound and the norm of the evaluation is L-infinity."""
        return evaluation.config.certify and evaluation.protocol.settings.norm == LINF

    @property
    def over(self) -> bool:
        """True when all images have been processed."""
        return self.done >= len(self.evaluation.y)

    @property
    def progress(self) -> tuple[float, int]:
        """The pair (completed, total) of network evaluations. Certifying one image counts as four evaluations."""
        return 4.0 * self.done, 4 * len(self.evaluation.y)

    def step(self, poll: Callable[[], None] = lambda: None) -> list[tuple[str, dict[str, Any]]]:
        """Compute interval bounds for the next block of images.

        Args:
            poll: function called before each layer. It may raise StopRequested. The next call then repeats the block.

        Returns:
            After the last block, a list with one event, ("certified", fields of the event). After every other block, [].

        Raises:
            ConfigError: the network has an operation without an interval form.
        """
        evaluation = self.evaluation
        block = torch.arange(self.done, min(self.done + BATCH, len(evaluation.y)), device=evaluation.y.device)
        # Use one lane's threads: with two threads, the bounds of the preset `quick` took 11 s instead of 1.6 s.
        with Lanes.on(evaluation.y.device):
            certificate = certify(evaluation.network, evaluation.x[block], evaluation.y[block],
                                  epsilon=evaluation.protocol.settings.epsilon, poll=poll)
        self.done += len(block)
        self.certified += int(certificate.certified.sum())
        return [("certified", self._result())] if self.over else []

    def state_dict(self) -> dict[str, Any]:
        """Return {"done": number of processed images, "certified": number of certified images}."""
        return {"done": self.done, "certified": self.certified}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the two numbers that `state_dict` has returned."""
        self.done, self.certified = int(state["done"]), int(state["certified"])

    def _result(self) -> dict[str, Any]:
        low, high = wilson(self.certified, self.done)
        return {"norm": LINF, "epsilon": self.evaluation.protocol.settings.epsilon, "images": self.done,
                "correct": self.certified, "low": low, "high": high, "method": METHOD}
