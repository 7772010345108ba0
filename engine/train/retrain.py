"""Training of a derived network from scratch: one step, one selection, and the state between them.

The published procedure (ARNAS, released training code) by default: PGD-7 in evaluation mode, cross-entropy on the
adversarial images plus 0.4 times that of the auxiliary head, SGD, gradient clip. Differs: the checkpoint is chosen on the
select split by adversarial accuracy (published: clean accuracy on the test set), so the images of that split are not trained
on. The run's loop owns epochs and data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.guard import under_attack
from engine.config import RetrainConfig
from engine.data.augmentation import augment, generator_for
from engine.train import schedule
from engine.train.adversarial import trades_images, trades_loss, training_images


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        loss: the training loss that was descended.
        natural_accuracy: share of the clean (augmented) images right in training mode; None where no clean pass is made.
        adversarial_accuracy: the same of the adversarial images; None in natural training.
        passes: forward passes.
    """

    loss: float
    natural_accuracy: float | None
    adversarial_accuracy: float | None
    passes: int


@dataclass(frozen=True)
class _Measured:
    """A `StepReport` that still lies on the device: reading it earlier would make the device wait in the middle of a step."""

    loss: Tensor
    natural_accuracy: Tensor | None
    adversarial_accuracy: Tensor | None
    passes: int

    def report(self) -> StepReport:
        """Reads the numbers, all at once."""
        present = [value for value in (self.loss, self.natural_accuracy, self.adversarial_accuracy) if value is not None]
        read = iter(torch.stack([value.detach().to(self.loss.dtype) for value in present]).tolist())
        return StepReport(*(None if value is None else next(read)
                            for value in (self.loss, self.natural_accuracy, self.adversarial_accuracy)), self.passes)


@dataclass(frozen=True)
class Selection:
    """A measurement on the select split in evaluation mode, running statistics."""

    natural_loss: float
    natural_accuracy: float
    adversarial_loss: float
    adversarial_accuracy: float
    images: int

    @property
    def rank(self) -> tuple[float, float]:
        """Greater is better: adversarial accuracy, natural accuracy between equals."""
        return self.adversarial_accuracy, self.natural_accuracy


class Retraining:
    """A network, its optimiser and its best state so far.

    Example:
        training = Retraining(config, network)
        for step, indices in enumerate(batches(len(x), config.batch_size, generator_for(seed, "order", epoch))):
            training.step(x[indices], y[indices], epoch=epoch, step=step, poll=poll)
        selection = training.select(x_select, y_select, poll=poll)
        training.keep_best(selection, epoch)
    """

    def __init__(self, config: RetrainConfig, network: nn.Module) -> None:
        """network: on its device, with `drop_path`, `forward(x)` and `forward_with_auxiliary(x)`."""
        self.config, self.network = config, network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=config.momentum,
                                         weight_decay=config.weight_decay)
        self.steps = 0
        self.best: dict[str, Any] | None = None

    def step(self, x: Tensor, y: Tensor, *, epoch: int, step: int,
             poll: Callable[[], None] = lambda: None) -> StepReport:
        """One weight update.

        Args:
            x: [B, C, H, W] images as loaded, pixels in 0..1; augmented here.
            y: int64 [B] labels.
            epoch, step: number of the epoch and of the step in it; with the seed they decide every random number.
            poll: called before each forward pass; when it raises, network and optimiser are what they were.
        """
        device = x.device
        x = augment(x, self._generator("augment", epoch, step, device), self.config.crop_padding, self.config.flip,
                    self.config.cutout)
        with self._undone_on_failure(), self._random_state("network", epoch, step, device):
            self.network.drop_path = schedule.drop_path(self.config, epoch)
            self.network.train()
            measured = self._loss(x, y, self._generator("attack", epoch, step, device), poll)
            measured.loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(self.config, epoch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return measured.report()

    def select(self, x: Tensor, y: Tensor, poll: Callable[[], None] = lambda: None, batch_size: int = 256) -> Selection:
        """Natural and adversarial loss and accuracy of the present network; changes nothing.

        PGD with `selection_steps` steps of epsilon / 4 from a uniform start that is the same at every call, so that
        epochs are compared on equal terms. x: [N, C, H, W] and y: [N] of the select split.
        """
        natural, adversarial = [], []
        for block, (images, labels) in enumerate(zip(x.split(batch_size), y.split(batch_size), strict=True)):
            attacked = training_images(
                self.network, images, labels, epsilon=self.config.epsilon, step_size=self.config.epsilon / 4,
                steps=self.config.selection_steps, start="uniform", poll=poll,
                generator=generator_for(self.config.seed, "select", block, device=x.device))
            natural.append(self._evaluate(images, labels, poll))
            adversarial.append(self._evaluate(attacked, labels, poll))
        (natural_loss, natural_right), (adversarial_loss, adversarial_right) = (
            (sum(part) for part in zip(*sums, strict=True)) for sums in (natural, adversarial))
        n = len(y)
        return Selection(natural_loss / n, natural_right / n, adversarial_loss / n, adversarial_right / n, n)

    def keep_best(self, selection: Selection, epoch: int) -> bool:
        """Keeps a copy of the network if `selection` beats the best so far; returns whether it did."""
        if self.best is not None and selection.rank <= Selection(**self.best["selection"]).rank:
            return False
        self.best = {"network": _copy(self.network.state_dict()), "selection": asdict(selection), "epoch": epoch}
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on; loads with weights_only=True. `best["network"]` is what attack runs read."""
        return {"network": _copy(self.network.state_dict()), "optimizer": self.optimizer.state_dict(), "steps": self.steps,
                "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.best = int(state["steps"]), state["best"]

    def _loss(self, x: Tensor, y: Tensor, generator: torch.Generator, poll: Callable[[], None]) -> _Measured:
        attack = {"epsilon": self.config.epsilon, "step_size": self.config.step_size, "steps": self.config.attack_steps,
                  "start_noise": self.config.start_noise, "generator": generator, "poll": poll}
        if self.config.training == "natural":
            logits, auxiliary = self._forward(x, poll)
            loss = F.cross_entropy(logits, y) + self._auxiliary_loss(auxiliary, y)
            return _Measured(loss, _accuracy(logits, y), None, 1)
        if self.config.training == "trades":
            x_adv = trades_images(self.network, x, y, **attack)
            logits, auxiliary = self._forward(x, poll)
            logits_adv, auxiliary_adv = self._forward(x_adv, poll)
            chosen = auxiliary if self.config.auxiliary_input == "clean" else auxiliary_adv
            loss = trades_loss(logits, logits_adv, y, self.config.trades_beta) + self._auxiliary_loss(chosen, y)
            return _Measured(loss, _accuracy(logits, y), _accuracy(logits_adv, y), self.config.attack_steps + 3)
        return self._adversarial_loss(x, y, attack, poll)

    def _adversarial_loss(self, x: Tensor, y: Tensor, attack: dict[str, Any], poll: Callable[[], None]) -> _Measured:
        natural_accuracy, auxiliary, passes = None, None, self.config.attack_steps + 1
        if self.config.auxiliary_input == "clean":
            # Published: a clean pass in training mode before the attack. Its auxiliary logits enter the loss, its batch
            # statistics enter BatchNorm's running ones, also when there is no auxiliary head.
            with torch.set_grad_enabled(self.config.auxiliary_weight > 0):
                logits, auxiliary = self._forward(x, poll)
            natural_accuracy, passes = _accuracy(logits, y), passes + 1
        x_adv = training_images(self.network, x, y, **attack)
        logits_adv, auxiliary_adv = self._forward(x_adv, poll)
        chosen = auxiliary if self.config.auxiliary_input == "clean" else auxiliary_adv
        loss = F.cross_entropy(logits_adv, y) + self._auxiliary_loss(chosen, y)
        return _Measured(loss, natural_accuracy, _accuracy(logits_adv, y), passes)

    def _forward(self, x: Tensor, poll: Callable[[], None]) -> tuple[Tensor, Tensor | None]:
        poll()
        if self.config.auxiliary_weight > 0:
            return self.network.forward_with_auxiliary(x)
        return self.network(x), None

    def _auxiliary_loss(self, auxiliary: Tensor | None, y: Tensor) -> Tensor | float:
        return 0.0 if auxiliary is None else self.config.auxiliary_weight * F.cross_entropy(auxiliary, y)

    def _evaluate(self, x: Tensor, y: Tensor, poll: Callable[[], None]) -> tuple[float, int]:
        """(summed cross-entropy, number right) in evaluation mode."""
        poll()
        with under_attack(self.network), torch.no_grad():
            logits = self.network(x)
            return float(F.cross_entropy(logits, y, reduction="sum")), int((logits.argmax(1) == y).sum())

    def _generator(self, purpose: str, epoch: int, step: int, device: torch.device) -> torch.Generator:
        return generator_for(self.config.seed, purpose, epoch, step, device=device)

    @contextmanager
    def _random_state(self, purpose: str, epoch: int, step: int, device: torch.device) -> Iterator[None]:
        """Drop path draws from the global state: it is seeded for this step and put back after."""
        with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
            torch.manual_seed(generator_for(self.config.seed, purpose, epoch, step).initial_seed())
            yield

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Parameters change only after the block; what it may change (buffers, gradients, modes) is put back on failure."""
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        modes = [(module, module.training) for module in self.network.modules()]
        dropped = getattr(self.network, "drop_path", 0.0)
        try:
            yield
        except BaseException:
            for buffer, before in buffers:
                buffer.copy_(before)
            for module, training in modes:
                module.training = training
            self.network.drop_path = dropped
            self.optimizer.zero_grad(set_to_none=True)
            raise


def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == y).float().mean()


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
