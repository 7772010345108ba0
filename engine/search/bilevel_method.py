"""The parts that all bilevel search methods share: state, step, attacks, report and checkpoint.

    min over alpha of (c_1 L_1(w', alpha), ..., c_m L_m(w', alpha)),    w' one SGD step of the training loss

The m objectives c_i L_i have fixed coefficients c_i. An architecture gradient is the gradient of one objective with respect to
alpha. In every step, a solver weighs the m architecture gradients, and the alphas descend the weighted sum. The supernet's
weights w and the alphas are flat vectors. A subclass defines the objectives of the current epoch (`objectives`), their weighting
(`weigh`), and the images on which w is trained.

A step gets two batches. The weights batch trains w, and the alphas batch gives the architecture gradients. The implicit term of
an objective is the part of its gradient that goes through w'. PGD takes k steps on each batch whose adversarial images are
needed. One step:

| what                                                                         | passes  | backward computes       |
|------------------------------------------------------------------------------|---------|-------------------------|
| PGD on the weights batch and on the alphas batch                             | 0 to 2k | input gradients         |
| training gradient at (w, alpha), which gives the w' of all objectives        | 1       | weight gradient         |
| every objective at (w', alpha)                                               | m       | weight and alpha grads  |
| finite differences of the implicit terms                                     | 2 m     | alpha gradients         |
| weights of the objectives, Adam on alpha                                     | 0       |                         |
| natural weights batch: BatchNorm buffers and training accuracy               | 1       | nothing                 |
| weight step: SGD on the training loss at (w, new alpha)                      | 1       | weight gradient         |

Exceptions:

- First order leaves out the training gradient and the finite differences.
- Some objectives take two passes. An objective of the alphas alone takes none and has no implicit term.
- A warm-up step leaves the alphas unchanged. It consists of the last two rows of the table. If w is trained on adversarial
  images, PGD on the weights batch comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from engine.architecture.genotype import PRIMITIVES
from engine.data.transfer import to_device
from engine.errors import CheckpointError
from engine.graphs import Graphs
from engine.lanes import Lanes
from engine.search.bilevel import Bilevel, InnerAttack, adam, clipped, sgd
from engine.search.config import BilevelConfig
from engine.search.method import StepReport
from engine.search.objectives import StepImages, accuracy, bound, cross_entropy_of
from engine.search.proposal import ArchitectureGradients, Batch, Proposal, State
from engine.search.registries import Objective, Value
from engine.search.weighting import gramian_of

if TYPE_CHECKING:
    from engine.architecture.genotype import Genotype
    from engine.space.supernet import Supernet

__all__ = ["ArchitectureGradients", "Batch", "BilevelMethod", "Proposal", "State"]

# Progress message for each attack.
PROGRESS = {"training": "PGD step {number} of {steps}, weights batch", "x_adv": "PGD step {number} of {steps}, alphas batch",
        "x_one_step": "one-step attack, alphas batch"}
Config = TypeVar("Config", bound=BilevelConfig)


class BilevelMethod(Generic[Config]):
    """The base class of all bilevel methods. The module docstring describes its step.

    Attributes:
        cell_kinds, primitives: see `SearchMethod`, the interface of this class.
        trains_on_adversarial: True if the weight step and the unrolled step use adversarial images.
        epoch: epoch of the next steps, counted from 0.
    """

    cell_kinds: ClassVar[tuple[str, ...]]
    primitives: ClassVar[tuple[str, ...]] = PRIMITIVES
    trains_on_adversarial: ClassVar[bool] = False
    candidates: ClassVar[tuple[()]] = ()

    def __init__(self, config: Config, supernet: Supernet, *, device: torch.device | str, dtype: torch.dtype = torch.float32,
                 seed: int, graphs: Graphs | None = None) -> None:
        """Draw fresh weights and alphas from `seed`. A later `load_state_dict` replaces them.

        Args:
            config: configuration of the method.
            supernet: supernet in which the method searches.
            device, dtype: device and dtype of all tensors of the state.
            seed: seed of the initial weights and alphas.
            graphs: recorder of passes as CUDA graphs; None to create one with `Graphs.on`.
        """
        self.config, self.supernet = config, supernet
        self.device, self.dtype = torch.device(device), dtype
        generator = torch.Generator().manual_seed(seed)
        weights = supernet.initial_weights(generator, dtype, self.device)
        alphas = supernet.initial_alphas(generator, dtype, self.device)
        self._state = State(weights, torch.zeros_like(weights), alphas, torch.zeros_like(alphas), torch.zeros_like(alphas),
                            supernet.initial_buffers().to(self.device, dtype), 0)
        self._graphs = graphs or Graphs.on(self.device)
        self.activity = "waiting"
        self.epoch = 0

    # The parts of a method.

    def objectives(self) -> tuple[Objective, ...]:
        """Return the registered objectives of the current epoch with their coefficients, or () in a warm-up."""
        raise NotImplementedError

    def weigh(self, gradients: Tensor, losses: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Compute the weights of the objectives from the architecture gradients.

        Args:
            gradients: [m, k] architecture gradients, each multiplied by the coefficient of its objective.
            losses: [m] values of the objectives, also multiplied by the coefficients.
            names: names of the m objectives.

        Returns:
            gramian: [m, m] Gramian of the gradients, or of the normalised gradients if the method normalises them.
            weights: [m] weights of the objectives, computed from this Gramian.
        """
        gramian = gramian_of(gradients)
        if len(names) > 1:
            raise NotImplementedError("a method of several objectives must define how it weighs them")
        return gramian, torch.ones_like(gramian[0])

    def bound(self, objective: Objective, images: StepImages) -> Objective:
        """Return a copy of `objective` in which the supernet and the images of a step are filled in."""
        return bound(objective, self.supernet, images, self.config)

    def training_objective(self, x: Tensor, y: Tensor) -> Objective:
        """Return the loss that the weight step and the unrolled step minimise.

        Args:
            x: images [B, C, H, W], adversarial if the method trains on adversarial images.
            y: labels [B].
        """
        return cross_entropy_of(self.supernet, x, y, "training")

    def inner_attack(self) -> InnerAttack:
        """Return the settings of the attack on both batches.

        A method without adversarial images need not implement this.
        """
        raise NotImplementedError

    def one_step_attack(self) -> InnerAttack:
        """Return the settings of the single-step attack on the alphas batch.

        The objective one_step is the loss on the images of this attack.
        """
        raise NotImplementedError

    @property
    def stage(self) -> str:
        """Description of the current stage of the search; empty if the search has a single stage."""
        return ""

    # The interface of `SearchMethod`.

    @property
    def weights(self) -> Tensor:
        """Flat weights [n] in the supernet's layout."""
        return self._state.weights

    @property
    def alphas(self) -> Tensor:
        """Flat alphas [k], with cell kinds in the order of the supernet."""
        return self._state.alphas

    @property
    def buffers(self) -> Tensor:
        """Flat running statistics of BatchNorm, updated in each step by a pass on natural images."""
        return self._state.buffers

    @property
    def steps(self) -> int:
        """Number of completed steps."""
        return self._state.steps

    @property
    def notices(self) -> list[str]:
        """Messages for the user.

        The list has one message if recording CUDA graphs has failed, and is otherwise empty.
        """
        return [self._graphs.refusal] if self._graphs.refusal else []

    @property
    def passes_per_step(self) -> int:
        """Number of forward passes in one step of the current epoch."""
        return sum(attack.steps for _, attack in self._attacks().values()) + self.architecture_passes() + 2

    def architecture_passes(self) -> int:
        """Return the number of forward passes that the architecture gradients of one step take."""
        objectives = self.objectives()
        evaluations = [objective.passes for objective in objectives if objective.passes]
        return 1 + sum(evaluations) + 2 * len(evaluations) if self.config.unrolled and objectives else sum(evaluations)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def end_epoch(self) -> None:
        """Do nothing. A bilevel search has no work at the end of an epoch."""

    def genotype(self) -> Genotype:
        return self.supernet.genotype(self.alphas)

    def step(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             out_of_distribution: Tensor | None = None, poll: Callable[[], None] = lambda: None) -> StepReport:
        """Take one step, or leave the state unchanged if it fails.

        The step waits for the device only once, at the end.

        Args:
            train_batch: images and labels (x [B, C, H, W] in 0..1, y [B] int64) of the weights split.
            alpha_batch: images and labels of the alphas split, in the same form.
            learning_rate: learning rate of the weight step and of the unrolled step.
            generator: source of the attacks' random starts, first for the weights batch, then for the alphas batch. An abandoned
                step has already advanced the generator, so restore the generator's state before repeating the step.
            noise: (random start of the weights batch, random start of the alphas batch), given instead of a generator. Each has
                the shape of the batch's images and values in [-epsilon, epsilon]. A method without an attack needs neither
                generator nor noise.
            out_of_distribution: images [B, C, H, W] of another dataset, needed if an objective reads them; see
                `SearchMethod.step`.
            poll: called before each forward pass; may raise to abandon the step.

        Raises:
            ValueError: the step has an attack, but `generator` and `noise` are both given or both missing. Also raised if the
                configuration needs out-of-distribution images and none are given.
            RunError: a loss or a gradient is not finite; the state stays unchanged.
        """
        proposal = self.propose(train_batch, alpha_batch, learning_rate=learning_rate, generator=generator, noise=noise,
                                out_of_distribution=out_of_distribution, poll=poll)
        return self.take(proposal)

    def propose(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
                generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
                out_of_distribution: Tensor | None = None, poll: Callable[[], None] = lambda: None) -> Proposal:
        """Compute a step without taking it. `step` describes the arguments and the errors."""
        attacked = self._attacked()
        if any(attacked) and (generator is None) == (noise is None):
            raise ValueError("a step needs either a generator or the noise of its two attacks")
        if out_of_distribution is None and self.config.out_of_distribution is not None:
            raise ValueError("a step needs the out-of-distribution images that its configuration needs")
        batches = self._placed(train_batch), self._placed(alpha_batch)
        starts = tuple(
            None if not needed else noise[i] if noise else self._random_start(batches[i][0], generator)
            for i, needed in enumerate(attacked))
        with Lanes.on(self.device) as lanes:
            return self._propose(Bilevel(poll, lanes, self._graphs), *batches, starts, learning_rate,
                                 None if out_of_distribution is None else out_of_distribution.to(self.device, self.dtype))

    def take(self, proposal: Proposal) -> StepReport:
        """Replace the state by the proposed one and return the report of the step.

        Raises:
            RunError: a number in the proposal is not finite; the state stays unchanged.
        """
        report = proposal.report(self.trains_on_adversarial, self.stage)
        self._state = proposal.state
        return report

    # The step.

    def _attacks(self) -> dict[str, tuple[int, InnerAttack]]:
        """Return {name of the adversarial images: (batch, settings of the attack)} for all attacks of a step.

        The name is "training" or a field of `StepImages`. The batch is 0 for the weights batch and 1 for the alphas batch.
        """
        read = {name for objective in self.objectives() for name in objective.reads}
        attacks = {"training": (0, self.inner_attack())} if self.trains_on_adversarial else {}
        if "x_adv" in read:
            attacks["x_adv"] = 1, self.inner_attack()
        if "x_one_step" in read:
            attacks["x_one_step"] = 1, self.one_step_attack()
        return attacks

    @property
    def attack_of_steps(self) -> InnerAttack | None:
        """The settings of the first attack of a step; None if the current steps attack no images."""
        return next((settings for _, settings in self._attacks().values()), None)

    def _attacked(self) -> tuple[bool, bool]:
        """Return for each of the two batches whether it is attacked.

        Returns:
            weights_batch: True if the weights batch is attacked.
            alphas_batch: True if the alphas batch is attacked.
        """
        batches = [batch for batch, _ in self._attacks().values()]
        return 0 in batches, 1 in batches

    def _propose(self, passes: Bilevel, train_batch: Batch, alpha_batch: Batch, starts: tuple[Tensor | None, ...],
                 learning_rate: float, out_of_distribution: Tensor | None) -> Proposal:
        now, chosen, (x, y), (xs, ys) = self._state, self.objectives(), train_batch, alpha_batch
        made = self._made(passes, (train_batch, alpha_batch), starts)
        x_adv, xs_adv = made.get("training"), made.get("x_adv")
        training = self.training_objective(x if x_adv is None else x_adv, y)
        images = StepImages(xs, ys, xs_adv, made.get("x_one_step"), out_of_distribution)
        objectives = tuple(self.bound(objective, images) for objective in chosen)
        if objectives:
            self.activity = "architecture gradients"
            gradients = self._architecture_gradients(passes, training, objectives, learning_rate)
            alphas, mean, square = adam(
                now.alphas, now.mean, now.square, gradients.combined, step=now.steps - now.warmup_steps + 1,
                learning_rate=self.config.alpha_learning_rate, weight_decay=self.config.alpha_weight_decay)
        else:
            gradients, alphas, mean, square = ArchitectureGradients.none(now.alphas), now.alphas, now.mean, now.square
        (natural_accuracy, buffers), (gradient, value) = passes.side_by_side(
            lambda: self._natural_pass(passes, x, y, alphas), lambda: self._weight_step_gradient(passes, training, alphas))
        weights, velocity = self._sgd(clipped(gradient, self.config.gradient_clip), learning_rate)
        state = State(weights, velocity, alphas, mean, square, buffers, now.steps + 1, now.warmup_steps + (not objectives))
        return Proposal(state, x_adv, xs_adv, chosen, gradients, value, natural_accuracy, passes.passes)

    def _placed(self, batch: Batch) -> Batch:
        x, y = batch
        return x.to(self.device, self.dtype), y.to(self.device)

    def _random_start(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw noise with the shape of x, uniform in [-epsilon, epsilon].

        The numbers are drawn on the generator's device and then moved to the method's device.
        """
        assert generator is not None
        uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=self.dtype)
        return to_device((2 * uniform - 1) * self.inner_attack().epsilon, self.device)

    def _made(self, passes: Bilevel, batches: tuple[Batch, Batch], starts: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Return {name: adversarial images} of all attacks in `_attacks`, made at the current weights and alphas."""
        attacks = self._attacks()
        made = passes.side_by_side(*(
            partial(self._attack, passes, settings, *batches[i], self._start(settings, starts[i]), PROGRESS[name])
            for name, (i, settings) in attacks.items()))
        return dict(zip(attacks, made, strict=True))

    def _start(self, settings: InnerAttack, noise: Tensor | None) -> Tensor:
        """Return noise rescaled from the radius of `inner_attack` to the radius in `settings`. `noise` must not be None."""
        assert noise is not None
        usual = self.inner_attack().epsilon
        return noise if settings.epsilon == usual else noise * (settings.epsilon / usual)

    def _attack(self, passes: Bilevel, settings: InnerAttack, x: Tensor, y: Tensor, noise: Tensor, progress: str) -> Tensor:
        def announce(number: int) -> None:
            self.activity = progress.format(number=number, steps=settings.steps)

        return passes.attack(settings, self.supernet, x, y, noise.to(x), self.weights, self.alphas, announce)

    def _architecture_gradients(self, passes: Bilevel, training: Objective, objectives: tuple[Objective, ...],
                                learning_rate: float) -> ArchitectureGradients:
        """Compute the architecture gradients, the weights of the objectives, and the weighted sum of the gradients."""
        now, settings = self._state, self.config
        raw, values = passes.architecture_gradients(
            training, objectives, now.weights, now.alphas,
            (lambda gradient: self._sgd(gradient, learning_rate)[0]) if settings.unrolled else None,
            learning_rate=learning_rate, radius=settings.finite_difference)
        gradients, gramian, weights = self._weighed(raw, values, objectives)
        combined = (weights.to(self.dtype)[:, None] * gradients).sum(dim=0)
        return ArchitectureGradients(raw, gradients, gramian, weights, combined, values)

    def _weighed(self, raw: Tensor, values: Sequence[Value],
                 objectives: Sequence[Objective]) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the coefficients to gradients and values, then compute the weights of the objectives.

        Args:
            raw: [m, k] architecture gradients without coefficients.
            values: values of the m objectives without coefficients.
            objectives: the m objectives.

        Returns:
            gradients: [m, k] architecture gradients with coefficients.
            gramian, weights: [m, m] and [m], as returned by `weigh`.
        """
        gradients = torch.stack([objective.coefficient * row for objective, row in zip(objectives, raw, strict=True)])
        losses = torch.stack([objective.coefficient * value.loss for objective, value in zip(objectives, values, strict=True)])
        return gradients, *self.weigh(gradients, losses, [objective.name for objective in objectives])

    def _sgd(self, gradient: Tensor, learning_rate: float) -> tuple[Tensor, Tensor]:
        return sgd(self._state.weights, self._state.velocity, gradient, learning_rate=learning_rate,
                   momentum=self.config.momentum, weight_decay=self.config.weight_decay)

    def _weight_step_gradient(self, passes: Bilevel, training: Objective, alphas: Tensor) -> tuple[Tensor, Value]:
        self.activity = "weight step"
        return passes.weight_gradient(training, self.weights, alphas)

    def _natural_pass(self, passes: Bilevel, x: Tensor, y: Tensor, alphas: Tensor) -> tuple[Tensor, ...]:
        """Run one pass on the natural images of the weights batch, with the old weights and the given alphas.

        Returns:
            accuracy: accuracy on these images.
            buffers: running statistics of BatchNorm after the pass.
        """
        self.activity = "natural weights batch"

        @torch.no_grad()
        def forward(x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor, buffers: Tensor) -> tuple[Tensor, Tensor]:
            moved = buffers.clone()
            logits = self.supernet.logits(x, weights, alphas, buffers=moved, update_buffers=True)
            return accuracy(logits, y), moved

        return passes.one_pass("natural", forward, x, y, self.weights, alphas, self.buffers)

    # Checkpoint.

    def state_dict(self) -> dict[str, Any]:
        """Return {name: tensor or number} with the state of the method.

        The tensors are the method's own, not copies. The method never changes them in place.
        """
        state = {f.name: getattr(self._state, f.name) for f in fields(State)}
        if not self._state.warmup_steps:  # the format of checkpoints from before warm-ups were added
            del state["warmup_steps"]
        return {"layout": self.supernet.layout.version, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            CheckpointError: an entry is missing or has a different shape or layout; the state stays unchanged.
        """
        if state.get("layout") != self.supernet.layout.version:
            raise CheckpointError(f"A search checkpoint must have the layout {self.supernet.layout.version}, got "
                                  f"{state.get('layout')!r}; resume with the version that wrote it.")
        loaded: dict[str, Any] = {}
        for name, ours in vars(self._state).items():
            counts = isinstance(ours, int)
            theirs = state.get(name, 0 if name == "warmup_steps" else None)
            if counts:
                fits = type(theirs) is int and 0 <= theirs <= loaded.get("steps", theirs)
            else:
                fits = isinstance(theirs, Tensor) and theirs.shape == ours.shape
            if not fits:
                expected = "a number of steps" if counts else f"a tensor of shape {list(ours.shape)}"
                got = f"shape {list(theirs.shape)}" if isinstance(theirs, Tensor) else repr(theirs)
                raise CheckpointError(f"Entry {name!r} of the search checkpoint must be {expected}, got {got}; "
                                      "it belongs to a search with other settings or is damaged.")
            loaded[name] = theirs if counts else theirs.to(self.device, self.dtype, copy=True)
        self._state = State(**loaded)
