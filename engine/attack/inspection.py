"""The data that reliability checks use to inspect an evaluation (`Inspection`), and the declaration of one check (`Check`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.badge import Verdict
from engine.attack.catalogue import ATTACKS
from engine.attack.declaration import Attack, AttackSettings
from engine.attack.evaluation import Evaluation
from engine.attack.guard import attacked, finite_logits
from engine.attack.methods import run_attack
from engine.data.splits import stratified_subset

SUBSET = 64  # images on which checks call the network or attack it
SUBSET_SEED = 0
TIE = 1e-5  # relative difference of two logits below which rounding may decide between them


@dataclass(frozen=True)
class Inspection:
    """A finished evaluation with a small fixed subset of its images. Use it inside `engine.attack.guard.under_attack`.

    Attributes:
        evaluation: the evaluation. All its stages (the attacks and the natural predictions) are complete.
        kept: {name of a stage: adversarial images read back from disk, float32 [s, C, H, W]}. They belong to the images
            at the positions `evaluation.sample`.
        poll: function called before each forward pass; it may raise StopRequested.
        images: maximum number of images in the subset.
    """

    evaluation: Evaluation
    kept: Mapping[str, Tensor]
    poll: Callable[[], None] = field(default=lambda: None)
    images: int = SUBSET

    @property
    def network(self) -> nn.Module:
        """The attacked network."""
        return self.evaluation.network

    @property
    def settings(self) -> AttackSettings:
        """Norm, radius, step size, classes and seed of the protocol."""
        return self.evaluation.protocol.settings

    @cached_property
    def positions(self) -> Tensor:
        """Positions of the subset's images among the images of the evaluation, int64 [n]. The subset is stratified by class."""
        return torch.from_numpy(stratified_subset(self.evaluation.y.cpu().numpy(), self.images, SUBSET_SEED))

    @cached_property
    def y(self) -> Tensor:
        """Labels of the subset, int64 [n]."""
        return self.evaluation.y[self.positions.to(self.evaluation.y.device)]

    @cached_property
    def x(self) -> Tensor:
        """Natural images of the subset, float32 [n, C, H, W]."""
        return self.evaluation.x[self.positions]

    @cached_property
    def right(self) -> Tensor:
        """A bool [n], True for images of the subset that the network classifies correctly without an attack."""
        return self.logits(self.x).argmax(1) == self.y

    @cached_property
    def differentiated(self) -> Callable[[Tensor], Tensor]:
        """The function from images to logits that attacks differentiate."""
        return attacked(self.network)

    @cached_property
    def attacks(self) -> list[Attack]:
        """The attacks of the protocol, in order. A suite (such as AutoAttack) is replaced by the attacks that it is made of."""
        declared = [ATTACKS[name] for name in self.evaluation.protocol.attacks]
        return [part for attack in declared for part in attack.parts or (attack,)]

    @property
    def white_box(self) -> list[Attack]:
        """The attacks of the protocol that use gradients, in order; all attacks of the protocol if none uses gradients."""
        return [attack for attack in self.attacks if not is_black_box(attack, self.settings.classes)] or self.attacks

    def logits(self, x: Tensor) -> Tensor:
        """Return the network's logits [n, classes] at images x, detached from the graph.

        The images are processed in batches of the same size as in the evaluation.
        """
        rows = []
        for batch in x.split(self.evaluation.config.batch_size):
            self.poll()
            rows.append(finite_logits(self.network, batch))
        return torch.cat(rows)

    def gradient(self, x: Tensor, y: Tensor, *, rescaled: bool) -> Tensor:
        """Return the gradient of the cross-entropy with respect to images x, [n, C, H, W].

        Args:
            x: images [n, C, H, W].
            y: labels, int64 [n].
            rescaled: True to scale the logits of each image first, so that the largest exceeds the smallest by 10. The softmax of
                such logits does not saturate in float32.
        """
        self.poll()
        point = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.differentiated(point)
            if rescaled:
                span = (logits.amax(1) - logits.amin(1)).detach()[:, None]
                logits = logits * 10 / torch.where(span > 0, span, 10)
            (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), point)
        return gradient.detach()

    def attack(self, attack: Attack, settings: AttackSettings, where: Tensor | None = None) -> Tensor:
        """Attack m images of the subset, and return their adversarial images, float32 [m, C, H, W], in the order of the images.

        Args:
            attack: the attack.
            settings: settings of the attack.
            where: bool [n], True for the images of the subset to attack. None attacks all n images.
        """
        x, y = (self.x, self.y) if where is None else (self.x[where], self.y[where])
        return run_attack(attack, self.network, x, y, settings, poll=self.poll, graphs=self.evaluation.graphs, batch=len(self.x))


@dataclass(frozen=True)
class Check:
    """The declaration of one check on the reliability of an evaluation.

    Attributes:
        name: name in the run log, for example "black-box".
        title: name shown to users.
        raised_if: a sentence that says when the check warns or fails.
        advice: a sentence that says what to do if it warns or fails.
        measure: function that makes the check. It returns the verdict and a sentence with the measured numbers.
        needs: names of earlier checks. This check is skipped if one of them has warned or failed, because it could only report
            the same cause again.
    """

    name: str
    title: str
    raised_if: str
    advice: str
    measure: Callable[[Inspection], tuple[Verdict, str]]
    needs: tuple[str, ...] = ()


def is_black_box(attack: Attack, classes: int) -> bool:
    """Return True if an attack uses no gradient of the attacked network. This is true of random search and transfer attacks."""
    return attack.passes(classes).backward == 0 or attack.name.startswith("transfer")


def tied(logits: Tensor) -> Tensor:
    """Return a bool [n] that is True where the two largest of the logits [n, classes] are equal up to rounding."""
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1] <= TIE * logits.abs().amax(1)


def graded(count: int, images: int, *, warning: float, failed: float) -> Verdict:
    """Return "failed", "warning" or "passed", depending on the fraction count / images.

    Args:
        count: number of images with a problem.
        images: number of all images.
        warning: fraction above which the verdict is at least "warning".
        failed: fraction above which the verdict is "failed".
    """
    share = count / images
    return "failed" if share > failed else "warning" if share > warning else "passed"
