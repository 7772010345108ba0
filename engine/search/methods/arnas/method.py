"""ARNAS: Ou, Feng and Sun, Towards Accurate and Robust Architectures via Neural Architecture Search, CVPR 2024,
arXiv 2405.05502, with the mathematics of the released search code.

    min over alpha of (L_nat(w', alpha), lambda L_adv(w', alpha)),    w' one SGD step of L_adv on the weights batch

One step, with PGD of k steps and for each of the two batches x_adv made on the current (w, alpha):

| what                                                                     | passes | backward computes        |
|--------------------------------------------------------------------------|--------|--------------------------|
| PGD on the weights batch and on the alphas batch                         | 2 k    | input gradients          |
| training gradient at (w, alpha), shared by both objectives' unrolled w'  | 1      | weight gradient          |
| natural and adversarial loss at (w', alpha)                              | 2      | weight and alpha grads   |
| finite differences of the two implicit terms                             | 4      | alpha gradients          |
| MGDA on the two architecture gradients, Adam on alpha                    | 0      |                          |
| natural weights batch: BatchNorm buffers and training accuracy           | 1      | nothing                  |
| weight step: SGD on L_adv at (w, new alpha)                              | 1      | weight gradient          |

2 k + 9 forward passes (23 for PGD-7) and 2 k + 8 backward passes. First order drops the training gradient and the four
finite differences: 2 k + 4 and 2 k + 3. On a CPU with two threads or more the two attacks run side by side, then the two
unrolled gradients, then the last two passes: only the training gradient is alone. On a GPU an attack is one CUDA graph and
every other pass one of four.

Differs: only the pass on natural images updates BatchNorm's running statistics. The released code lets every pass,
attack included, update them but never reads them, so weights and alphas are unaffected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.errors import CheckpointError, RunError
from engine.search.bilevel import Bilevel, InnerAttack, adam, clipped, sgd
from engine.search.graphs import Graphs
from engine.search.lanes import Lanes
from engine.search.method import StepReport
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.objectives import CrossEntropy, Value, accuracy
from engine.search.weighting import gramian_of, mgda, normalised

if TYPE_CHECKING:
    from engine.genotype import Genotype
    from engine.space.supernet import Supernet

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class State:
    """Everything that a step reads and replaces; no tensor in it is ever changed in place.

    Attributes:
        weights, velocity: [n] weights and momentum buffer of SGD.
        alphas, mean, square: [k] alphas and moments of Adam.
        buffers: running statistics of BatchNorm.
        steps: completed steps.
    """

    weights: Tensor
    velocity: Tensor
    alphas: Tensor
    mean: Tensor
    square: Tensor
    buffers: Tensor
    steps: int


@dataclass(frozen=True)
class ArchitectureGradients:
    """What the alphas batch gave.

    Attributes:
        raw: [2, k] architecture gradients of natural and adversarial loss, implicit terms included, without lambda.
        gradients: [2, k] u1 and u2 = lambda u_adv, as published.
        gramian: [2, 2] float64, as the solver saw it.
        weights: [2] gamma and 1 - gamma.
        values: the two losses and accuracies.
    """

    raw: Tensor
    gradients: Tensor
    gramian: Tensor
    weights: Tensor
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Proposal:
    """A computed step that has not been taken yet: `state` is what follows, the rest is how it came about.

    Attributes:
        x_adv: adversarial weights batch.
        xs_adv: adversarial alphas batch.
        training: loss and accuracy of the weight step.
        natural_accuracy: on the weights batch.
    """

    state: State
    x_adv: Tensor
    xs_adv: Tensor
    architecture: ArchitectureGradients
    training: Value
    natural_accuracy: Tensor
    passes: int


class Arnas:
    """See the module for the mathematics and its cost, `engine.search.method.SearchMethod` for the contract."""

    cell_kinds = ("robust", "reduce", "accurate")

    def __init__(self, config: ArnasConfig, supernet: Supernet, *, device: torch.device | str,
                 dtype: torch.dtype = torch.float32, seed: int, graphs: Graphs | None = None) -> None:
        """Fresh weights and alphas from `seed`; `load_state_dict` replaces them. graphs: None for those of the device."""
        self.config, self.supernet = config, supernet
        self.device, self.dtype = torch.device(device), dtype
        generator = torch.Generator().manual_seed(seed)
        weights = supernet.initial_weights(generator, dtype, self.device)
        alphas = supernet.initial_alphas(generator, dtype, self.device)
        self._state = State(weights, torch.zeros_like(weights), alphas, torch.zeros_like(alphas), torch.zeros_like(alphas),
                            supernet.initial_buffers().to(self.device, dtype), 0)
        self._inner_attack = InnerAttack(config.epsilon, config.step_size, config.attack_steps, config.clip_images,
                                         config.attack_precision)
        self._graphs = graphs or Graphs.on(self.device)
        self.activity = "waiting"

    @property
    def weights(self) -> Tensor:
        """[n] flat weights in the supernet's layout."""
        return self._state.weights

    @property
    def alphas(self) -> Tensor:
        """[k] flat alphas, kinds in the order of `cell_kinds`."""
        return self._state.alphas

    @property
    def buffers(self) -> Tensor:
        """Flat running statistics of BatchNorm, fed by the natural weights batches."""
        return self._state.buffers

    @property
    def steps(self) -> int:
        """Completed steps."""
        return self._state.steps

    @property
    def notices(self) -> list[str]:
        """See `SearchMethod`."""
        return [self._graphs.refusal] if self._graphs.refusal else []

    @property
    def passes_per_step(self) -> int:
        """Forward passes of one step."""
        return 2 * self.config.attack_steps + (9 if self.config.unrolled else 4)

    def genotype(self) -> Genotype:
        """See `SearchMethod.genotype`."""
        return self.supernet.genotype(self.alphas)

    def step(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             poll: Callable[[], None] = lambda: None) -> StepReport:
        """One step; all or nothing. The device is waited for once, at the end.

        Args:
            train_batch, alpha_batch: (x [B, C, H, W] in 0..1, y [B] int64) of the weights and the alphas split.
            learning_rate: of SGD in this epoch; also that of the unrolled step.
            generator: where the random starts of the two attacks come from, weights batch first. Advanced by a step
                even if that is abandoned, so a repeated step needs a generator in the same state.
            noise: the two random starts themselves, instead of a generator; each like its x, in [-epsilon, epsilon].
            poll: called before each forward pass; may raise to abandon the step.

        Raises:
            ValueError: neither generator nor noise, or both.
            RunError: a loss or a gradient is not finite; the state stays as it was.
        """
        proposal = self.propose(train_batch, alpha_batch, learning_rate=learning_rate, generator=generator, noise=noise,
                                poll=poll)
        return self.take(proposal)

    def propose(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
                generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
                poll: Callable[[], None] = lambda: None) -> Proposal:
        """The step without taking it: changes nothing. Arguments as `step`."""
        if (generator is None) == (noise is None):
            raise ValueError("a step needs either a generator or the noise of its two attacks")
        (x, y), (xs, ys) = self._placed(train_batch), self._placed(alpha_batch)
        starts = noise or (self._random_start(x, generator), self._random_start(xs, generator))
        with Lanes(torch.get_num_threads() if self.device.type == "cpu" else 1) as lanes:
            return self._propose(Bilevel(poll, lanes, self._graphs), (x, y), (xs, ys), starts, learning_rate)

    def _propose(self, passes: Bilevel, train_batch: Batch, alpha_batch: Batch, starts: tuple[Tensor, Tensor],
                 learning_rate: float) -> Proposal:
        now, (x, y), (xs, ys) = self._state, train_batch, alpha_batch
        x_adv, xs_adv = passes.side_by_side(lambda: self._attack(passes, x, y, starts[0], "weights"),
                                            lambda: self._attack(passes, xs, ys, starts[1], "alphas"))
        training = CrossEntropy("training", self.supernet, x_adv, y)
        objectives = (CrossEntropy("natural", self.supernet, xs, ys),
                      CrossEntropy("adversarial", self.supernet, xs_adv, ys, self.config.adversarial_lambda))
        found = self._architecture_gradients(passes, training, objectives, learning_rate)
        combined = (found.weights.to(self.dtype)[:, None] * found.gradients).sum(dim=0)
        alphas, mean, square = adam(
            now.alphas, now.mean, now.square, combined, step=now.steps + 1,
            learning_rate=self.config.alpha_learning_rate, weight_decay=self.config.alpha_weight_decay)
        (natural_accuracy, buffers), (gradient, value) = passes.side_by_side(
            lambda: self._natural_pass(passes, x, y, alphas), lambda: self._weight_step_gradient(passes, training, alphas))
        weights, velocity = self._sgd(clipped(gradient, self.config.gradient_clip), learning_rate)
        state = State(weights, velocity, alphas, mean, square, buffers, now.steps + 1)
        return Proposal(state, x_adv, xs_adv, found, value, natural_accuracy, passes.passes)

    def take(self, proposal: Proposal) -> StepReport:
        """Makes the proposed state the method's own, unless one of its numbers is not finite (RunError)."""
        report = self._report(proposal)
        self._state = proposal.state
        return report

    def _placed(self, batch: Batch) -> Batch:
        x, y = batch
        return x.to(self.device, self.dtype), y.to(self.device)

    def _random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in [-epsilon, epsilon], drawn on the generator's device."""
        uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=self.dtype)
        noise = (2 * uniform - 1) * self.config.epsilon
        if self.device.type == "cuda" and noise.device.type == "cpu":
            noise = noise.pin_memory()  # else the copy would wait for all work that the device still has
        return noise.to(self.device, non_blocking=True)

    def _attack(self, passes: Bilevel, x: Tensor, y: Tensor, noise: Tensor, split: str) -> Tensor:
        """PGD on the supernet as it is now."""
        def announce(number: int) -> None:
            self.activity = f"PGD step {number} of {self.config.attack_steps}, {split} batch"

        return passes.attack(self._inner_attack, self.supernet, x, y, noise.to(x), self.weights, self.alphas, announce)

    def _architecture_gradients(self, passes: Bilevel, training: CrossEntropy, objectives: tuple[CrossEntropy, ...],
                                learning_rate: float) -> ArchitectureGradients:
        """u1 and u2, and MGDA's weights for them."""
        now, settings = self._state, self.config
        self.activity = "architecture gradients"
        raw, values = passes.architecture_gradients(
            training, objectives, now.weights, now.alphas,
            (lambda gradient: self._sgd(gradient, learning_rate)[0]) if settings.unrolled else None,
            learning_rate=learning_rate, radius=settings.finite_difference)
        gradients = torch.stack([objective.coefficient * row for objective, row in zip(objectives, raw, strict=True)])
        losses = torch.stack([objective.coefficient * value.loss for objective, value in zip(objectives, values, strict=True)])
        gramian = normalised(gramian_of(gradients), losses, settings.gradient_normalisation)
        return ArchitectureGradients(raw, gradients, gramian, mgda(gramian), values)

    def _sgd(self, gradient: Tensor, learning_rate: float) -> tuple[Tensor, Tensor]:
        return sgd(self._state.weights, self._state.velocity, gradient, learning_rate=learning_rate,
                   momentum=self.config.momentum, weight_decay=self.config.weight_decay)

    def _weight_step_gradient(self, passes: Bilevel, training: CrossEntropy, alphas: Tensor) -> tuple[Tensor, Value]:
        self.activity = "weight step"
        return passes.weight_gradient(training, self.weights, alphas)

    def _natural_pass(self, passes: Bilevel, x: Tensor, y: Tensor, alphas: Tensor) -> tuple[Tensor, ...]:
        """Accuracy on natural images and the running statistics after seeing them, for the network of the weight step."""
        self.activity = "natural weights batch"

        @torch.no_grad()
        def forward(x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor, buffers: Tensor) -> tuple[Tensor, Tensor]:
            moved = buffers.clone()
            logits = self.supernet.logits(x, weights, alphas, buffers=moved, update_buffers=True)
            return accuracy(logits, y), moved

        return passes.one_pass("natural", forward, x, y, self.weights, alphas, self.buffers)

    def _report(self, proposal: Proposal) -> StepReport:
        """Fetches all numbers of a step at once.

        Raises:
            RunError: one of them, or a new weight or alpha, is not finite.
        """
        found, state = proposal.architecture, proposal.state
        norms = found.gramian.diagonal().sqrt()
        sizes = torch.where(norms > 0, norms, torch.ones_like(norms))
        cosines = (found.gramian / torch.outer(sizes, sizes)).clamp(-1, 1)
        natural, adversarial = found.values
        scalars = (natural.loss, adversarial.loss, natural.accuracy, adversarial.accuracy, proposal.training.loss,
                   proposal.natural_accuracy, proposal.training.accuracy, state.weights.sum(), state.alphas.sum())
        measured = torch.cat([
            torch.stack([scalar.double() for scalar in scalars]), found.weights, norms,
            gramian_of(found.raw).diagonal().sqrt(), cosines.flatten()]).tolist()
        natural_loss, adversarial_loss, *accuracies, train_loss, train_accuracy, train_adversarial_accuracy = measured[:7]
        if not all(map(isfinite, measured)):
            raise RunError(
                f"Step {state.steps} of the search must give finite numbers, got a training loss of {train_loss:.4g}, a "
                f"natural loss of {natural_loss:.4g} and an adversarial loss of {adversarial_loss:.4g}; lower "
                "weights_learning_rate or gradient_clip. The state before the step is kept.")
        pairs = measured[len(scalars):]
        weights, norm_pair, raw_norms, *rows = (tuple(pairs[i:i + 2]) for i in range(0, len(pairs), 2))
        return StepReport(
            names=("natural", "adversarial"), losses=(natural_loss, adversarial_loss),
            coefficients=(1.0, self.config.adversarial_lambda), weights=weights, norms=norm_pair, raw_norms=raw_norms,
            cosines=tuple(rows), natural_accuracy=accuracies[0], adversarial_accuracy=accuracies[1], train_loss=train_loss,
            train_accuracy=train_accuracy, train_adversarial_accuracy=train_adversarial_accuracy, passes=proposal.passes)

    def state_dict(self) -> dict[str, Any]:
        """See `SearchMethod.state_dict`. The tensors are the method's own; it never changes them in place."""
        return {"layout": self.supernet.layout.version, **{f.name: getattr(self._state, f.name) for f in fields(State)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `SearchMethod.load_state_dict`.

        Raises:
            CheckpointError: an entry is missing or has another shape or layout; nothing is changed then.
        """
        if state.get("layout") != self.supernet.layout.version:
            raise CheckpointError(f"A search checkpoint of layout {self.supernet.layout.version} is needed, got "
                                  f"{state.get('layout')!r}; resume with the version that wrote it.")
        loaded: dict[str, Any] = {}
        for name, ours in vars(self._state).items():
            theirs = state.get(name)
            if name == "steps":
                fits = isinstance(theirs, int) and theirs >= 0
            else:
                fits = isinstance(theirs, Tensor) and theirs.shape == ours.shape
            if not fits:
                expected = "a number of steps" if name == "steps" else f"a tensor of shape {list(ours.shape)}"
                got = f"shape {list(theirs.shape)}" if isinstance(theirs, Tensor) else repr(theirs)
                raise CheckpointError(f"Entry {name!r} of the search checkpoint must be {expected}, got {got}; "
                                      "it belongs to a search with other settings or is damaged.")
            loaded[name] = theirs if name == "steps" else theirs.to(self.device, self.dtype, copy=True)
        self._state = State(**loaded)
