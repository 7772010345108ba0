"""Random search: n architectures are drawn uniformly (`sampling`), trained adversarially one by one, measured and ranked.

    result = argmax over i of accuracy(PGD(x), y; w_i, a_i) on the select split,    a_1, ..., a_n uniform, independent

w_i are the weights of the network derived from a_i, after a short adversarial training on the weights split. A training step is
a step of ARNAS's retraining, without the auxiliary head:

| step                | what                                                                  | passes | backward computes |
|---------------------|-----------------------------------------------------------------------|--------|-------------------|
| training            | natural weights batch, in training mode: BatchNorm buffers, accuracy  | 1      | nothing           |
|                     | PGD of k steps, in evaluation mode                                    | k      | input gradients   |
|                     | weight step: SGD on the adversarial images' loss, in training mode    | 1      | weight gradient   |
| measuring (last epoch of a candidate) | natural select batch, in evaluation mode            | 1      | nothing           |
|                     | PGD of m steps of epsilon/4, in evaluation mode                       | m      | input gradients   |
|                     | adversarial select batch, in evaluation mode                          | 1      | nothing           |

With the setting `inherit_from`, a measuring step also measures the candidate's architecture with the weights of a trained
supernet, on the same batch and from the same start of PGD (`engine.search.inherited`). This takes another m + 2 passes, changes
nothing else, and does not depend on the training of the candidate.

A trained candidate is measured once on each select image. No select image is ever used for training. All candidates use the same
random numbers (initial weights, order and augmentation of images, starts of PGD), so that they differ less by chance. Accuracy
after a short training is only a proxy for accuracy after full training, and the highest of n accuracies tends to be too high.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import PRIMITIVES, Genotype
from engine.attack.guard import attacked, under_attack
from engine.attack.pgd import pgd, project
from engine.data.augmentation import generator_for
from engine.data.splits import stable_seed
from engine.data.transfer import to_device
from engine.errors import CheckpointError, GenotypeError, RunError, shortened
from engine.search.bilevel import clipped, sgd
from engine.search.candidates import Candidate, ranked
from engine.search.inherited import TrainedSupernet, inherited_accuracy
from engine.search.method import StepReport
from engine.search.methods.random_search.config import RandomSearchConfig
from engine.search.methods.random_search.flat import FlatNetwork
from engine.search.methods.random_search.sampling import random_genotype
from engine.search.objectives import accuracy
from engine.space.network import Network

if TYPE_CHECKING:
    from engine.space.supernet import Supernet

Batch = tuple[Tensor, Tensor]
# Of the checkpoint. Layout 2 had no inherited counts. Searches with layout 1 measured on the alphas split.
LAYOUT, LAYOUT_WITHOUT_INHERITED = "random search 3", "random search 2"


@dataclass(frozen=True)
class State:
    """The state of a random search: everything that a step reads and replaces. Its tensors are never changed in place.

    Attributes:
        seed: seed of the genotypes and of every candidate's initial weights.
        candidate: number of the current candidate, from 0.
        weights, velocity: [n] weights and SGD's momentum buffer, in the order of the network's parameters.
        buffers: [m] running statistics of BatchNorm.
        images: number of images on which the current candidate has been measured so far.
        natural_correct: number of these images that the candidate classifies correctly without the attack.
        adversarial_correct: number of these images that the candidate classifies correctly under attack.
        inherited_natural_correct: number of these images that the candidate's architecture classifies correctly with the weights
            of a trained supernet and without the attack; 0 without such a supernet.
        inherited_adversarial_correct: the same number under attack.
        candidates: candidates that have been measured.
        steps: number of completed steps of all candidates together.
    """

    seed: int
    candidate: int
    weights: Tensor
    velocity: Tensor
    buffers: Tensor
    images: int = 0
    natural_correct: int = 0
    adversarial_correct: int = 0
    inherited_natural_correct: int = 0
    inherited_adversarial_correct: int = 0
    candidates: tuple[Candidate, ...] = ()
    steps: int = 0


class RandomSearch:
    """The search method random search, described in the module docstring.

    Attributes:
        cell_kinds: cell kinds under the default placement (the rule that gives each layer its kind of cell). The drawn
            architectures have the kinds in `supernet.kinds`, which can differ under another placement.
        primitives: operations of the drawn architectures.
        epoch: epoch of the next steps, counted from 0.
        trained: trained supernet. Each candidate's architecture is also measured with its weights. None to skip this measurement.
    """

    cell_kinds = ("robust", "reduce", "accurate")
    primitives = PRIMITIVES
    alphas = None

    def __init__(self, config: RandomSearchConfig, supernet: Supernet, *, device: torch.device | str,
                 dtype: torch.dtype = torch.float32, seed: int) -> None:
        """Build the network of the first candidate with fresh weights.

        Args:
            config: configuration of the search.
            supernet: source of the cell kinds, classes, image shape and normalisation. It is not trained.
            device, dtype: device and dtype of the networks.
            seed: seed of all candidates.
        """
        self.config, self.supernet = config, supernet
        self.device, self.dtype = torch.device(device), dtype
        self.notices: list[str] = []
        self.activity = "waiting"
        self.epoch = 0
        self.trained: TrainedSupernet | None = None
        self._network = self._fresh_network(seed, 0)
        self._state = self._begun(seed, 0)

    # The interface of `SearchMethod`.

    @property
    def weights(self) -> Tensor:
        """Flat weights [n] of the current candidate, in the order of its network's parameters."""
        return self._state.weights

    @property
    def buffers(self) -> Tensor:
        """Flat running statistics [m] of BatchNorm in the current candidate."""
        return self._state.buffers

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Candidates measured so far, oldest first."""
        return self._state.candidates

    @property
    def steps(self) -> int:
        """Number of completed steps."""
        return self._state.steps

    @property
    def passes_per_step(self) -> int:
        """Number of forward passes in one step of the current epoch."""
        if not self._measures:
            return 2 + self.config.attack_steps
        return (2 + self.config.ranking_steps) * (1 if self.trained is None else 2)

    @property
    def stage(self) -> str:
        """Description of the current stage: candidate and epoch, both counted from 1, and the best accuracy so far.

        The best accuracy is left out if no candidate has been measured yet, or if the setting `ranking` is "none".
        """
        position, epochs = self.config.training_epoch(self.epoch)
        doing = "measuring" if self._measures else f"epoch {position + 1} of {epochs}"
        here = f"Candidate {self._candidate + 1} of {self.config.candidates}, {doing}"
        if self.config.ranking == "none" or not self.candidates:
            return here
        best = getattr(ranked(self.candidates, self.config.ranking)[0], f"{self.config.ranking}_accuracy")
        return f"{here}; best so far {100 * best:.1f} % {self.config.ranking} on the select split"

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def end_epoch(self) -> None:
        """Add the current candidate to `candidates` if this epoch has measured it."""
        now = self._state
        if self._measures and now.images:
            inherited = () if self.trained is None else (now.inherited_natural_correct, now.inherited_adversarial_correct)
            done = Candidate(now.candidate + 1, self._genotype(now.seed, now.candidate), now.images, now.natural_correct,
                             now.adversarial_correct, *inherited)
            self._state = replace(now, candidates=(*now.candidates, done), images=0, natural_correct=0, adversarial_correct=0,
                                  inherited_natural_correct=0, inherited_adversarial_correct=0)

    def genotype(self) -> Genotype:
        """Return the genotype of the best candidate so far, according to the setting `ranking`.

        Before any candidate is measured, return the genotype of the first one.
        """
        best = ranked(self.candidates, self.config.ranking)
        return best[0].genotype if best else self._genotype(self._state.seed, 0)

    def step(self, train_batch: Batch, alpha_batch: Batch, *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             poll: Callable[[], None] = lambda: None) -> StepReport:
        """Take one step, which trains the current candidate or, in the candidate's last epoch, measures it.

        If the step fails, the state stays unchanged.

        Args:
            train_batch: (images [B, C, H, W] in 0..1, labels int64 [B]) of the weights split. Used if the step trains.
            alpha_batch: (images, labels) of the select split, with the same shapes. Used if the step measures.
            learning_rate: learning rate of SGD.
            generator: source of the attack's random start. Give either this or `noise`.
            noise: (noise for the images of `train_batch`, noise for the images of `alpha_batch`), which the attack adds to the
                images before its first step.
            poll: function called before each forward pass. It may raise an exception to abandon the step.

        Raises:
            ValueError: both or none of `generator` and `noise` are given.
            RunError: a loss or a weight is not finite.
        """
        if (generator is None) == (noise is None):
            raise ValueError("a step needs either a generator or the noise of its attack")
        now, (x, y) = self._begin_step(), alpha_batch if self._measures else train_batch
        x, y = x.to(self.device, self.dtype), y.to(self.device)
        draw = self._uniform if self._measures else self._normal
        added = to_device(draw(x, generator) if noise is None else noise[self._measures], self.device).to(self.dtype)
        if self._measures:
            after, numbers = self._measured(now, x, y, added, poll)
            if self.trained is not None:
                after = self._measured_untrained(after, self.trained, x, y, added, poll)
        else:
            after, numbers = self._trained(now, x, y, added, learning_rate, poll)
        self._state = replace(after, steps=now.steps + 1)
        return self._report(numbers, len(y))

    # The step.

    @property
    def _candidate(self) -> int:
        """Number of the candidate to which the current epoch belongs, counted from 0."""
        return self.epoch // self.config.candidate_epochs

    @property
    def _measures(self) -> bool:
        """True if the current epoch is the last one of a candidate. The candidate is then measured instead of trained."""
        position, epochs = self.config.training_epoch(self.epoch)
        return position == epochs

    def _genotype(self, seed: int, candidate: int) -> Genotype:
        return random_genotype(self.supernet.kinds, generator_for(seed, "genotype", candidate))

    def _fresh_network(self, seed: int, candidate: int) -> FlatNetwork:
        """Build the network of a candidate. The initial weights of all candidates come from the same random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stable_seed(seed, "network"))
            network = Network(self._genotype(seed, candidate), channels=self.config.channels, layers=self.config.layers,
                              placement=self.config.placement, width_ratio=self.config.width_ratio,
                              classes=self.supernet.classes, image_shape=self.supernet.image_shape, mean=self.supernet.mean,
                              std=self.supernet.std)
        return FlatNetwork(network.to(self.device, self.dtype))

    def _begun(self, seed: int, candidate: int) -> State:
        """Return the state before the first step of a candidate, whose fresh network must already be in `_network`."""
        weights = self._network.weights()
        return State(seed, candidate, weights, torch.zeros_like(weights), self._network.buffers())

    def _begin_step(self) -> State:
        """Return the state from which the step starts, and load it into the network.

        The first step of a candidate starts from a fresh state. Loading undoes the changes of an abandoned step.
        """
        now = self._state
        if self._network.network.genotype != self._genotype(now.seed, self._candidate) or now.candidate != self._candidate:
            self._network = self._fresh_network(now.seed, self._candidate)
        if now.candidate != self._candidate:
            now = replace(self._begun(now.seed, self._candidate), candidates=now.candidates, steps=now.steps)
        self._network.load(now.weights, now.buffers)
        return now

    def _normal(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        assert generator is not None
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return self.config.start_noise * noise

    def _uniform(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        assert generator is not None
        uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return self.config.epsilon * (2 * uniform - 1)

    def _trained(self, now: State, x: Tensor, y: Tensor, noise: Tensor, learning_rate: float,
                 poll: Callable[[], None]) -> tuple[State, dict[str, float]]:
        """Take one step of SGD on adversarial images, after a pass on the natural images that updates BatchNorm.

        Returns:
            after: state after the step.
            numbers: {name: value} of the step's measurements.
        """
        config, network = self.config, self._network.network.train()
        with torch.no_grad():
            natural = self._logits(network, x, "natural weights batch", poll)
        x_adv = self._attack(x, y, x + noise, config.step_size, config.attack_steps, "weights batch", poll)
        logits = self._logits(network, x_adv, "weight step", poll)
        loss = F.cross_entropy(logits, y)
        gradient = clipped(self._network.gradient(loss), config.gradient_clip)
        weights, velocity = sgd(now.weights, now.velocity, gradient, learning_rate=learning_rate, momentum=config.momentum,
                                weight_decay=config.weight_decay)
        after = replace(now, weights=weights, velocity=velocity, buffers=self._network.buffers())
        return after, self._numbers(train_loss=loss, train_accuracy=accuracy(natural, y),
                                    train_adversarial_accuracy=accuracy(logits, y), weights=weights.sum(),
                                    buffers=after.buffers.sum())

    def _measured(self, now: State, x: Tensor, y: Tensor, noise: Tensor,
                  poll: Callable[[], None]) -> tuple[State, dict[str, float]]:
        """Count the correctly classified images of a batch, once without and once with the attack.

        Returns:
            after: state after the step.
            numbers: {name: value} of the step's measurements.
        """
        config, network = self.config, self._network.network.eval()
        start = project(x + noise, x, config.epsilon)
        with torch.no_grad():
            natural = self._logits(network, x, "natural select batch", poll)
        x_adv = self._attack(x, y, start, config.epsilon / 4, config.ranking_steps, "select batch", poll)
        with torch.no_grad():
            adversarial = self._logits(network, x_adv, "adversarial select batch", poll)
        numbers = self._numbers(
            natural_loss=F.cross_entropy(natural, y), adversarial_loss=F.cross_entropy(adversarial, y),
            natural_correct=(natural.argmax(1) == y).sum(), adversarial_correct=(adversarial.argmax(1) == y).sum())
        after = replace(now, images=now.images + len(y), natural_correct=now.natural_correct + round(numbers["natural_correct"]),
                        adversarial_correct=now.adversarial_correct + round(numbers["adversarial_correct"]))
        return after, numbers

    def _measured_untrained(self, now: State, trained: TrainedSupernet, x: Tensor, y: Tensor, noise: Tensor,
                            poll: Callable[[], None]) -> State:
        """Count the images that the candidate's architecture classifies correctly with the weights of a trained supernet.

        The images are counted once without an attack and once under PGD, which starts from x plus `noise`. Return a copy of the
        state `now` in which both counts are added to the fields `inherited_...`.
        """
        def begin(activity: str) -> None:
            self.activity = activity
            poll()

        counts = inherited_accuracy(trained, self._genotype(now.seed, now.candidate), [(x, y, noise)],
                                    epsilon=self.config.epsilon, steps=self.config.ranking_steps, begin=begin)
        return replace(
            now, inherited_natural_correct=now.inherited_natural_correct + counts.natural_correct,
            inherited_adversarial_correct=now.inherited_adversarial_correct + counts.adversarial_correct)

    def _logits(self, network: Network, x: Tensor, activity: str, poll: Callable[[], None]) -> Tensor:
        self.activity = activity
        poll()
        logits: Tensor = network(x)
        return logits

    def _attack(self, x: Tensor, y: Tensor, start: Tensor, step_size: float, steps: int, batch: str,
                poll: Callable[[], None]) -> Tensor:
        """Run PGD on the current candidate's network in evaluation mode, and return the adversarial images [B, C, H, W].

        Args:
            x: natural images [B, C, H, W], pixels in 0..1.
            y: labels [B].
            start: images [B, C, H, W] from which PGD starts.
            step_size: length of one step in pixel space.
            steps: number of steps.
            batch: name of the batch in progress messages.
            poll: function called before each step. It may raise to abandon the attack.
        """
        step = iter(range(1, steps + 1))
        with under_attack(self._network.network):
            logits_of = attacked(self._network.network)

            def gradient(images: Tensor) -> Tensor:
                self.activity = f"PGD step {next(step)} of {steps}, {batch}"
                poll()
                images = images.detach().requires_grad_()
                with torch.enable_grad():
                    return torch.autograd.grad(F.cross_entropy(logits_of(images), y), images)[0]

            return pgd(gradient, x, start, epsilon=self.config.epsilon, step_size=step_size, steps=steps, clip=True)

    # Report and checkpoint.

    def _numbers(self, **tensors: Tensor) -> dict[str, float]:
        """Fetch all scalars of a step from the device at once and return {name: number}.

        Raises:
            RunError: a scalar is not finite.
        """
        numbers = dict(zip(tensors, torch.stack([tensor.detach().double() for tensor in tensors.values()]).tolist(), strict=True))
        if not all(map(isfinite, numbers.values())):
            losses = " and ".join(f"a {name.replace('_', ' ')} of {value:.4g}"
                                  for name, value in numbers.items() if "loss" in name)
            raise RunError(f"Step {self.steps} of the search must give finite numbers, got {losses}; lower weights_learning_rate "
                           "or gradient_clip. The state before the step is kept.")
        return numbers

    def _report(self, numbers: Mapping[str, float], images: int) -> StepReport:
        none: dict[str, Any] = dict.fromkeys(("coefficients", "weights", "norms", "raw_norms", "cosines"), ())
        common: dict[str, Any] = none | {"passes": self.passes_per_step, "stage": self.stage, "statistics": "running"}
        if not self._measures:
            common |= {name: numbers[name] for name in ("train_loss", "train_accuracy", "train_adversarial_accuracy")}
            return StepReport(names=(), losses=(), natural_accuracy=None, adversarial_accuracy=None, **common)
        return StepReport(
            names=("natural", "adversarial"), losses=(numbers["natural_loss"], numbers["adversarial_loss"]),
            natural_accuracy=numbers["natural_correct"] / images, adversarial_accuracy=numbers["adversarial_correct"] / images,
            train_loss=None, train_accuracy=None, train_adversarial_accuracy=None, **common)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the search.

        The tensors are not copied. This is safe because the search never changes its tensors in place.
        """
        state = {f.name: getattr(self._state, f.name) for f in fields(State)}
        return {"layout": LAYOUT} | state | {"candidates": [
            {**vars(one), "genotype": one.genotype.to_json()} for one in self.candidates]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            CheckpointError: an entry is missing or has a different shape or layout; the state stays unchanged.
        """
        if state.get("layout") == LAYOUT_WITHOUT_INHERITED:
            state = {**state, "layout": LAYOUT, "inherited_natural_correct": 0, "inherited_adversarial_correct": 0}
        if state.get("layout") != LAYOUT:
            raise CheckpointError(f"A checkpoint of random search must be of layout {LAYOUT!r}, got {state.get('layout')!r}; "
                                  "resume with the version that wrote it.")
        loaded: dict[str, Any] = {f.name: _whole(state, f.name) for f in fields(State) if f.type == "int"}
        network = self._fresh_network(loaded["seed"], loaded["candidate"])
        for name, ours in (("weights", network.weights()), ("velocity", network.weights()), ("buffers", network.buffers())):
            theirs = state.get(name)
            if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
                got = f"shape {list(theirs.shape)}" if isinstance(theirs, Tensor) else repr(theirs)
                raise CheckpointError(f"Entry {name!r} of the search checkpoint must be a tensor of shape {list(ours.shape)}, "
                                      f"got {got}; it belongs to a search with other settings or is damaged.")
            loaded[name] = theirs.to(self.device, self.dtype, copy=True)
        loaded["candidates"] = _candidates(state.get("candidates"))
        self._network, self._state = network, State(**loaded)


def _whole(state: Mapping[str, Any], name: str) -> int:
    """Read a whole number of at least 0 from a checkpoint."""
    value = state.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointError(f"Entry {name!r} of the search checkpoint must be a whole number, got {value!r}; it belongs to "
                              "another search or is damaged.")
    return value


def _candidates(records: Any) -> tuple[Candidate, ...]:
    """Read the measured candidates from a checkpoint."""
    try:
        return tuple(Candidate(**{**one, "genotype": Genotype.from_json(one["genotype"])}) for one in records)
    except (TypeError, KeyError, GenotypeError):
        raise CheckpointError(f"Entry 'candidates' of the search checkpoint must be the measured candidates, got "
                              f"{shortened(records)}; it belongs to another search or is damaged.") from None
