"""Training of a network from scratch: the training step, checkpoint selection, and the state to resume from.

The default is the published procedure (ARNAS, released training code): PGD-7 in evaluation mode, SGD and gradient clipping. The
loss is cross-entropy on the adversarial images plus 0.4 times the cross-entropy of the auxiliary head. The caller handles epochs
and data.

Differs: the checkpoint is selected by adversarial accuracy on the select split, whose images are held out of training. The
published code selects by clean accuracy on the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attack.guard import under_attack
from engine.config import RetrainConfig
from engine.data.augmentation import augment, generator_for
from engine.data.loading import Images
from engine.graphs import Graphs
from engine.space.part import Part, tell_part
from engine.train import schedule
from engine.train.adversarial import fast_images, trades_images, trades_loss, training_images
from engine.train.average import Average
from engine.train.distributed import ALONE, Processes
from engine.train.passes import TrainingPasses
from engine.train.precision import under_autocast


@dataclass(frozen=True)
class Probe:
    """The result of a check for catastrophic overfitting during Fast-AT training.

    The check measures the accuracy on a training batch under two attacks. It runs in evaluation mode, before the training step on
    this batch.

    Attributes:
        fgsm_accuracy: accuracy 0..1 under the training attack, which takes one step from a random start.
        pgd_accuracy: accuracy 0..1 under PGD from a random start.
        highest: highest `pgd_accuracy` of earlier probes.
        alert: True for the first probe that finds a collapse (see `Retraining.is_collapse`). Later probes of the same collapse
            give False.
    """

    fgsm_accuracy: float
    pgd_accuracy: float
    highest: float
    alert: bool


@dataclass(frozen=True)
class StepReport:
    """The measurements of a training step.

    Attributes:
        loss: the training loss.
        natural_accuracy: accuracy 0..1 on the augmented clean images in training mode; None if the step makes no forward pass on
            clean images.
        adversarial_accuracy: accuracy 0..1 on the adversarial images in training mode; None in natural training.
        passes: number of forward passes. Some steps begin with a check for catastrophic overfitting, whose passes count as well.
        probe: result of this check; None if the step has no check.
    """

    loss: float
    natural_accuracy: float | None
    adversarial_accuracy: float | None
    passes: int
    probe: Probe | None = None


@dataclass(frozen=True)
class Measured:
    """The measurements of a training step whose numbers are still on the device, so that the step does not wait for them.

    `reports` reads the numbers. The attributes are those of `StepReport`.
    """

    loss: Tensor
    natural_accuracy: Tensor | None
    adversarial_accuracy: Tensor | None
    passes: int
    probe: Probe | None = None

    @property
    def means(self) -> dict[str, Tensor]:
        """The means over the images of the batch, without those that the step has not measured."""
        every = {"loss": self.loss, "natural_accuracy": self.natural_accuracy, "adversarial_accuracy": self.adversarial_accuracy}
        return {name: value for name, value in every.items() if value is not None}

    def with_means(self, values: Sequence[Tensor]) -> Measured:
        """Return a copy with other values for `means`, in the same order."""
        changes: dict[str, Any] = dict(zip(self.means, values, strict=True))
        return replace(self, **changes)


def reports(measured: Sequence[Measured]) -> list[StepReport]:
    """Return the reports of one or more steps, after copying all their numbers from the device at once."""
    numbers = [value for one in measured for value in one.means.values()]
    read = iter(torch.stack([value.to(numbers[0].dtype) for value in numbers]).tolist())

    def next_of(value: Tensor | None) -> float | None:
        return None if value is None else next(read)

    return [StepReport(next(read), next_of(one.natural_accuracy), next_of(one.adversarial_accuracy), one.passes, one.probe)
            for one in measured]


@dataclass(frozen=True)
class Selection:
    """The losses and accuracies (0..1) of a network on the select split, in evaluation mode."""

    natural_loss: float
    natural_accuracy: float
    adversarial_loss: float
    adversarial_accuracy: float
    images: int

    @property
    def rank(self) -> tuple[float, float]:
        """The pair (adversarial accuracy, natural accuracy), by which checkpoints are compared. Natural accuracy breaks ties."""
        return self.adversarial_accuracy, self.natural_accuracy


class Retraining:
    """A network in training, with its optimiser, its best checkpoint so far and, if configured, the average of its weights.

    Example:
        training = Retraining(config, network)
        for step, indices in enumerate(batches(len(x), config.batch_size, generator_for(seed, "order", epoch))):
            training.step(x[indices], y[indices], epoch=epoch, step=step, poll=poll)
        selection = training.select(x_select, y_select, poll=poll)
        training.keep_best(selection, epoch)
    """

    def __init__(self, config: RetrainConfig, network: nn.Module, steps_per_epoch: int = 1,
                 processes: Processes = ALONE, graphs: Graphs | None = None) -> None:
        """Prepare the training of a network.

        Args:
            config: the settings of the run.
            network: the network on its device, with an attribute `drop_path` and methods `forward(x)` and
                `forward_with_auxiliary(x)`.
            steps_per_epoch: number of steps in an epoch. Warm-up and the cyclic schedule need it, because they change the
                learning rate at every step.
            processes: the processes that share each batch. All of them call `step` and `select` with the same arguments, except
                for `poll`, and have the same state after each call.
            graphs: recorder of the passes of attacks and of training as CUDA graphs; None to create one with `Graphs.on`.
        """
        self.config, self.network, self.processes = config, network, processes
        self._told = processes.prepare(network)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=config.momentum,
                                         weight_decay=config.weight_decay)
        self.steps_per_epoch, self.steps = steps_per_epoch, 0
        self.best: dict[str, Any] | None = None
        self.average = Average(network, config.average_decay) if config.average_decay else None
        self.highest_probe, self.collapsed = 0.0, False
        self.graphs = graphs or Graphs.on(next(network.parameters()).device)
        self._passes = TrainingPasses(network, self.graphs, communicates=processes.is_synchronised and not processes.is_alone)

    def step(self, x: Tensor, y: Tensor, *, epoch: int, step: int,
             poll: Callable[[], None] = lambda: None) -> Measured:
        """Update the weights once. The step does not wait for a GPU, except for the check for catastrophic overfitting.

        Args:
            x: [B, C, H, W] images of the whole batch without augmentation, pixels in 0..1.
            y: int64 [B] labels.
            epoch: the epoch, from 0.
            step: the step in the epoch, from 0. Seed, epoch and step determine every random number.
            poll: function called before each forward pass. If it raises, network and optimiser are left unchanged.
        """
        device = x.device
        x = augment(x, self._generator("augment", epoch, step, device), self.config.crop_padding, self.config.flip,
                    self.config.cutout, self.network.get_buffer("mean") if self.config.normalise else None)
        part = self.processes.part(len(y))
        x, y = x[part.rows], y[part.rows]
        tell_part(self._told, part)
        with self._passes.undone_on_failure(), self._random_state("network", epoch, step, device):
            probe = self._probe(x, y, epoch, step, poll, part) if self._probe_due(step) else None
            self._passes.begin_step(schedule.drop_path(self.config, epoch), part, poll)
            measured = self._differentiate(x, y, self._generator("attack", epoch, step, device), poll, part)
            joined = self.processes.join(self.network, part, list(measured.means.values()))
            measured = measured.with_means(joined)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(self.config, epoch, step, self.steps_per_epoch)
        self.optimizer.step()
        self._passes.end_step()
        if self.average is not None:
            self.average.update(self.network)
        self.steps += 1
        if probe is not None:
            self.highest_probe = max(self.highest_probe, probe.pgd_accuracy)
            self.collapsed = self.is_collapse(probe)
            measured = replace(measured, passes=measured.passes + self.config.probe_steps + 3, probe=probe)
        return measured

    @property
    def expected_passes(self) -> int:
        """Approximate number of forward passes of the next step, for the progress line."""
        one_step = self.config.probe_steps + 5 if self._probe_due(self.steps % self.steps_per_epoch) else 2
        return {"natural": 1, "fast_at": one_step}.get(self.config.training, self.config.attack_steps + 2)

    @property
    def selected(self) -> nn.Module:
        """The network that is evaluated, saved as the best checkpoint and attacked.

        This is the averaged network if weight averaging is on, and otherwise the trained network.
        """
        return self.network if self.average is None else self.average.network

    def is_collapse(self, probe: Probe) -> bool:
        """Return True if a probe shows catastrophic overfitting: robustness to FGSM but no longer to PGD.

        A probe attacks a training batch with FGSM and PGD. `probe.highest` is the highest PGD accuracy of earlier probes. The
        result is True if both conditions hold:

        - The PGD accuracy is more than `probe_drop` below `probe.highest`.
        - The FGSM accuracy is at least `probe.highest`. On a batch that is merely hard, this condition does not hold.

        The published early stopping of Fast-AT uses the same threshold, but compares the PGD accuracies of successive epochs and
        ignores FGSM.
        """
        fallen = probe.highest - probe.pgd_accuracy > self.config.probe_drop
        return fallen and probe.fgsm_accuracy >= probe.highest

    def select(self, x: Tensor | Images, y: Tensor, poll: Callable[[], None] = lambda: None, batch_size: int = 256) -> Selection:
        """Measure the `selected` network on natural and on adversarial images: loss and accuracy, in float32.

        The attack is PGD with `selection_steps` steps of epsilon / 4 from a uniform start. Every call uses the same random
        numbers, so that epochs are comparable. The network and the optimiser stay unchanged. The results are read from the device
        once, at the end.

        Args:
            x: [N, C, H, W], images of the select split.
            y: [N], their labels.
            poll: function called before each forward pass.
            batch_size: number of images attacked at once.
        """
        sums = torch.zeros(4, dtype=torch.float64, device=x.device)  # exact for float32 losses and numbers of images
        for block, (images, labels) in enumerate(zip(x.split(batch_size), y.split(batch_size), strict=True)):
            part = self.processes.part(len(labels))
            images, labels = images[part.rows], labels[part.rows]  # noqa: PLW2901
            attacked = training_images(
                self.selected, images, labels, epsilon=self.config.epsilon, step_size=self.config.epsilon / 4,
                steps=self.config.selection_steps, start="uniform", poll=poll, part=part, graphs=self.graphs,
                generator=generator_for(self.config.seed, "select", block, device=x.device))
            measured = [*_evaluate(self.selected, images, labels, poll), *_evaluate(self.selected, attacked, labels, poll)]
            sums += part.weight * torch.stack([value.double() for value in measured])
        natural_loss, natural_right, adversarial_loss, adversarial_right = self.processes.total(sums).tolist()
        n = len(y)
        return Selection(natural_loss / n, round(natural_right) / n, adversarial_loss / n, round(adversarial_right) / n, n)

    def keep_best(self, selection: Selection, epoch: int) -> bool:
        """Copy the measured network (`self.selected`) if its result is the best so far. Return True if it was copied.

        Args:
            selection: result of `select` for the network in its current state.
            epoch: number of the current epoch, recorded with the copy.
        """
        if self.best is not None and selection.rank <= Selection(**self.best["selection"]).rank:
            return False
        self.best = {"network": _copy(self.selected.state_dict()), "selection": asdict(selection), "epoch": epoch}
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, in a form that torch.load(..., weights_only=True) can read.

        The entry `best["network"]` holds the parameters and buffers of the best network so far. Attack runs attack this network.
        """
        return {"network": _copy(self.network.state_dict()), "optimizer": self.optimizer.state_dict(), "steps": self.steps,
                "best": self.best, "average": None if self.average is None else self.average.state_dict(),
                "probe": {"highest": self.highest_probe, "collapsed": self.collapsed}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.best = int(state["steps"]), state["best"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.config.training == "fast_at":
            self.highest_probe, self.collapsed = float(state["probe"]["highest"]), bool(state["probe"]["collapsed"])

    def _differentiate(self, x: Tensor, y: Tensor, generator: torch.Generator, poll: Callable[[], None], part: Part) -> Measured:
        """Create the adversarial images of a step, and compute the gradients of its loss."""
        attack: dict[str, Any] = {
            "epsilon": self.config.epsilon, "step_size": self.config.step_size, "steps": self.config.attack_steps,
            "start_noise": self.config.start_noise, "generator": generator, "precision": self.config.precision, "poll": poll,
            "part": part, "graphs": self.graphs}
        if self.config.training == "natural":
            loss, accuracy = self._passes.add_gradients("natural", self._natural_loss, x, y)
            return Measured(loss, accuracy, None, 1)
        if self.config.training == "trades":
            x_adv = trades_images(self.network, x, y, **attack)
            loss, natural, adversarial = self._passes.add_gradients("trades", self._trades_loss, x, x_adv, y, forward_passes=2)
            return Measured(loss, natural, adversarial, self.config.attack_steps + 3)
        if self.config.training == "fast_at":
            # Fast-AT has no clean pass; only the auxiliary head may need one.
            clean = self.config.auxiliary_input == "clean" and self.config.auxiliary_weight > 0
            return self._adversarial(x, y, lambda: fast_images(
                self.network, x, y, epsilon=self.config.epsilon, step_size=self.config.fast_step * self.config.epsilon,
                generator=generator, precision=self.config.precision, poll=poll, part=part,
                run=partial(self._passes.run, "fast")), 1, clean)
        # As published, a clean pass in training mode precedes the attack. Its auxiliary logits enter the loss. Its batch
        # statistics enter BatchNorm's running statistics, even without an auxiliary head.
        return self._adversarial(x, y, lambda: training_images(self.network, x, y, **attack), self.config.attack_steps,
                                 self.config.auxiliary_input == "clean")

    def _adversarial(self, x: Tensor, y: Tensor, make_images: Callable[[], Tensor], attack_passes: int,
                     clean_pass: bool) -> Measured:
        # Gradients of the clean pass are taken before the attack, so that its activations need no memory during the attack.
        clean = self._passes.add_gradients("clean", self._clean_loss, x, y) if clean_pass else None
        loss, accuracy = self._passes.add_gradients("adversarial", self._adversarial_loss, make_images(), y)
        if clean is None:
            return Measured(loss, None, accuracy, attack_passes + 1)
        auxiliary_loss, natural_accuracy = clean
        return Measured(loss + auxiliary_loss, natural_accuracy, accuracy, attack_passes + 2)

    def _natural_loss(self, poll: Callable[[], None], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, auxiliary = self._forward(x, poll)
        return F.cross_entropy(logits, y) + self._auxiliary_loss(auxiliary, y), _accuracy(logits, y)

    def _trades_loss(self, poll: Callable[[], None], x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, auxiliary = self._forward(x, poll)
        logits_adv, auxiliary_adv = self._forward(x_adv, poll)
        chosen = auxiliary if self.config.auxiliary_input == "clean" else auxiliary_adv
        loss = trades_loss(logits, logits_adv, y, self.config.trades_beta) + self._auxiliary_loss(chosen, y)
        return loss, _accuracy(logits, y), _accuracy(logits_adv, y)

    def _clean_loss(self, poll: Callable[[], None], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(self.config.auxiliary_weight > 0):
            logits, auxiliary = self._forward(x, poll)
            return logits.new_zeros(()) + self._auxiliary_loss(auxiliary, y), _accuracy(logits, y)

    def _adversarial_loss(self, poll: Callable[[], None], x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, auxiliary = self._forward(x_adv, poll)
        chosen = None if self.config.auxiliary_input == "clean" else auxiliary
        return F.cross_entropy(logits, y) + self._auxiliary_loss(chosen, y), _accuracy(logits, y)

    def _forward(self, x: Tensor, poll: Callable[[], None]) -> tuple[Tensor, Tensor | None]:
        poll()
        if self.config.auxiliary_weight > 0:
            with_auxiliary: Any = self.network.forward_with_auxiliary
            both: tuple[Tensor, Tensor | None] = under_autocast(self.config.precision, with_auxiliary)(x)
            return both
        return under_autocast(self.config.precision, self.network)(x), None

    def _auxiliary_loss(self, auxiliary: Tensor | None, y: Tensor) -> Tensor | float:
        return 0.0 if auxiliary is None else self.config.auxiliary_weight * F.cross_entropy(auxiliary, y)

    def _probe_due(self, step: int) -> bool:
        """Return True if the next step begins with a probe, a check for catastrophic overfitting.

        `step` is the number of the next step within the epoch, from 0.
        """
        if self.config.training != "fast_at":
            return False
        return step == 0 if self.config.probe_every is None else self.steps % self.config.probe_every == 0

    def _probe(self, x: Tensor, y: Tensor, epoch: int, step: int, poll: Callable[[], None], part: Part) -> Probe:
        """Check for catastrophic overfitting: measure the accuracy on the batch of the next step under FGSM and under PGD.

        The check takes probe_steps + 3 forward passes and leaves the network unchanged. x and y are the part of the augmented
        batch.
        """
        epsilon, right = self.config.epsilon, []
        attacks = (("fgsm", 1, self.config.fast_step * epsilon), ("pgd", self.config.probe_steps, epsilon / 4))
        for name, steps, step_size in attacks:
            x_adv = training_images(self.network, x, y, epsilon=epsilon, step_size=step_size, steps=steps, start="uniform",
                                    generator=self._generator(f"probe {name}", epoch, step, x.device), poll=poll, part=part,
                                    graphs=self.graphs)
            right.append(_evaluate(self.network, x_adv, y, poll)[1])
        total = self.processes.total(part.weight * torch.stack(right).double())
        fgsm, pgd = (round(count) / part.images for count in total.tolist())
        probe = Probe(fgsm, pgd, self.highest_probe, alert=False)
        return replace(probe, alert=self.is_collapse(probe) and not self.collapsed)

    def _generator(self, purpose: str, epoch: int, step: int, device: torch.device) -> torch.Generator:
        return generator_for(self.config.seed, purpose, epoch, step, device=device)

    @contextmanager
    def _random_state(self, purpose: str, epoch: int, step: int, device: torch.device) -> Iterator[None]:
        """Seed torch's global random state inside the `with` block, for drop path, and restore the old state afterwards.

        The seed depends on the run's seed and on the arguments `purpose`, `epoch` and `step`.
        """
        with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
            torch.manual_seed(generator_for(self.config.seed, purpose, epoch, step).initial_seed())
            yield


def _evaluate(network: nn.Module, x: Tensor, y: Tensor, poll: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """Measure the network on labelled images in evaluation mode. The results stay on the device.

    Returns:
        loss: sum of the cross-entropies of all images, a scalar.
        correct: number of correct predictions, a scalar int64.
    """
    poll()
    with under_attack(network), torch.no_grad():
        logits = network(x)
        return F.cross_entropy(logits, y, reduction="sum"), (logits.argmax(1) == y).sum()


def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == y).float().mean()


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
