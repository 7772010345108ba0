"""Comparison of a network with the recorded outcomes of another network. It stops as soon as the more robust network is known.

The images are attacked in random order, in groups called chunks. All attacks of the protocol run on each chunk, one after
another. Each attack runs only on the images that have withstood the attacks before it. After each chunk, the module
`engine.attack.sequential` tests whether the more robust network is known.

The test is valid because the order of the images does not depend on any outcome. If an attack draws the random numbers of each
image separately, its outcomes are the same as in an evaluation of all images, up to rounding. If an attack draws random numbers
for a whole block of images, they are new for every chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from engine.attack.evaluation import Evaluation
from engine.attack.fingerprint import fingerprint, images_hash
from engine.attack.outcomes import CORRECT
from engine.attack.sequential import ConfidenceSequence
from engine.attack.statistics import PairedCounts
from engine.attack.verdict import Verdict
from engine.config import AttackConfig
from engine.data.loading import Images
from engine.data.splits import stable_seed
from engine.errors import CheckpointError
from engine.graphs import Graphs

ALPHA = 0.05
FIRST_CHUNK = 1 / 16  # of the images


def chunk_size(images: int, seen: int, batch: int) -> int:
    """Return the number of images in the next chunk of a comparison of two networks.

    A chunk is a group of images that are attacked together. After each chunk, the comparison may stop. The number is a
    sixteenth of `images` or half of `seen`, whichever is larger, but at most `batch` and at most the number of remaining
    images.

    Args:
        images: number of all images.
        seen: number of images in the earlier chunks.
        batch: maximum number of images in a chunk.
    """
    return min(batch, max(ceil(FIRST_CHUNK * images), seen // 2), images - seen)


class PairedEvaluation:
    """The attacks of a protocol on one network, compared with the known outcomes of the same attacks on another network.

    The images are attacked in chunks. The attacks stop as soon as it is known which of the two networks withstands them on more
    images.

    Attributes:
        order: positions of the compared images among all images, in the order in which they are attacked.
        sequence: bounds of this network's accuracy under all attacks minus the other network's. Only images of complete chunks
            count.
        correct: one bool per image of the complete chunks, True if this network withstands every attack on the image.
        graphs: recorder of the network's passes in the attacks on all chunks.
    """

    def __init__(self, config: AttackConfig, network: nn.Module, x: Tensor | Images, y: Tensor, *, classes: int,
                 indices: Sequence[int], other: Mapping[int, bool], checkpoint: str = "", graphs: Graphs | None = None) -> None:
        """Prepare the comparison; nothing runs yet.

        Args:
            config: attacks, norm, radius, step size, block size, seed.
            network: function from pixels in 0..1 to logits.
            x: float32 [N, C, H, W], pixels in 0..1, on the network's device.
            y: int64 [N] labels on the network's device.
            classes: number of classes of the dataset.
            indices: dataset index of each of the N images.
            other: {dataset index of an image: True if the other network withstands every attack on it}. Only these images are
                compared.
            checkpoint: hash of the network's weights.
            graphs: recorder of the network's passes; None to create one with `Graphs.on`.

        Raises:
            ConfigError: an attack is unknown, or is not defined for the number of classes or the norm.
            ValueError: none of the N images is in `other`.
        """
        self.config = config.model_copy(update={"worst_case_only": True, "autoattack_images": None})
        self.network, self.x, self.y, self.classes, self.network_hash = network, x, y, classes, checkpoint
        compared = [position for position, index in enumerate(indices) if index in other]
        shuffled = torch.randperm(len(compared), generator=torch.Generator().manual_seed(stable_seed(config.seed, "order")))
        self.order = [compared[place] for place in shuffled.tolist()]
        self.images = [int(indices[position]) for position in self.order]
        self.other = [other[image] for image in self.images]
        self.sequence = ConfidenceSequence(len(self.order), ALPHA)
        self.correct: list[bool] = []
        self.graphs = graphs or Graphs.on(y.device)
        self._evaluation: Evaluation | None = self._next()

    @property
    def over(self) -> bool:
        """True if the comparison is decided, or every image has been attacked."""
        return self._evaluation is None

    @property
    def stage(self) -> str:
        """The title of the attack in progress; "" at the end."""
        if self._evaluation is None:
            return ""
        attack = self._evaluation.stages[self._evaluation.stage].attack
        return attack.title if attack else "Natural images"

    @property
    def progress(self) -> float:
        """The number of images attacked so far. Partly attacked images count as fractions."""
        done, total = self._evaluation.progress if self._evaluation else (0.0, 1)
        return len(self.correct) + self._size * done / total

    @property
    def counts(self) -> PairedCounts:
        """Numbers of images on which all attacks are withstood by both networks, only one of them, or neither.

        The first network is the one that is being attacked, the second the network with the known outcomes. Only the images of
        complete chunks count.
        """
        pairs = list(zip(self.correct, self.other, strict=False))
        return PairedCounts(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    def step(self, poll: Callable[[], None] = lambda: None) -> bool:
        """Attack the current chunk of images for a while. When all attacks on the chunk have ended, update the comparison.

        If `poll` raises, the comparison can continue, or be saved and continue later, with the same result.

        Args:
            poll: function called before each forward pass; it may raise StopRequested.

        Returns:
            True if this call has completed a chunk.
        """
        evaluation = self._evaluation
        assert evaluation is not None
        evaluation.step(poll=poll)
        if not evaluation.over:
            return False
        last = list(evaluation.stages)[-1]  # an image that fell earlier is wrong in the last stage, too
        self._observe((evaluation.outcomes[last].correct == CORRECT).tolist())
        self._evaluation = self._next()
        return True

    def pairs(self) -> dict[str, list[Any]]:
        """Return the outcomes of the images of complete chunks, in the order in which the images were attacked.

        Returns:
            {"image": dataset indices, "first": outcomes of this network, "second": outcomes of the other network}. An outcome is
            True if the network withstands every attack on the image.
        """
        seen = len(self.correct)
        return {"image": self.images[:seen], "first": list(self.correct), "second": self.other[:seen]}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, in a form that torch.load(..., weights_only=True) can read."""
        return {"setup": self._setup(), "correct": list(self.correct),
                "evaluation": self._evaluation.state_dict() if self._evaluation else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` has returned.

        Raises:
            CheckpointError: the state belongs to other networks, or to another protocol.
        """
        if state.get("setup") != self._setup():
            raise CheckpointError("The saved comparison must have the same two networks, images, attacks and settings as this "
                                  "run, but one of them differs; start a new attack run.")
        self.sequence, self.correct = ConfidenceSequence(len(self.order), ALPHA), []
        self._observe(state["correct"])
        self._evaluation = self._next()
        if self._evaluation is not None and state["evaluation"] is not None:
            self._evaluation.load_state_dict(state["evaluation"])

    @property
    def _size(self) -> int:
        """The number of images in the current chunk (the images attacked together); 0 at the end."""
        return len(self._evaluation.y) if self._evaluation else 0

    def _observe(self, correct: Sequence[bool]) -> None:
        seen = len(self.correct)
        self.correct += correct
        self.sequence.observe(int(own) - int(other)
                              for own, other in zip(correct, self.other[seen:len(self.correct)], strict=True))

    def _next(self) -> Evaluation | None:
        """Return a new evaluation for the next chunk (group of images), or None if the comparison is decided."""
        if self.sequence.verdict is not Verdict.OPEN:
            return None
        seen = len(self.correct)
        chunk = slice(seen, seen + chunk_size(len(self.order), seen, self.config.batch_size))
        where = torch.tensor(self.order[chunk], device=self.y.device)
        # A chunk is at most one block, so that the number of images seen is a number for it.
        return Evaluation(self.config, self.network, self.x[where], self.y[where], classes=self.classes,
                          indices=self.images[chunk], checkpoint=self.network_hash, first_block=seen, graphs=self.graphs)

    def _setup(self) -> str:
        """Return a hash of everything on which the result depends: settings, network, images and the other network's outcomes."""
        withstood = (image for image, correct in zip(self.images, self.other, strict=True) if correct)
        return fingerprint({"settings": self.config.model_dump(mode="json", exclude={"device", "threads"}),
                            "network": self.network_hash, "images": images_hash(self.images), "other": images_hash(withstood)})
