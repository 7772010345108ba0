"""The interface between a search method and the loop that drives it. Imports no torch at run time.

The loop builds the supernet and the method. It passes each step a batch of the weights split (images that train the weights) and
a batch of the alphas split (images that train the alphas). If the configuration names a second dataset, it also passes a batch of
that dataset. After the last step of an epoch it calls `end_epoch`.

Epochs, learning-rate schedule, data, augmentation, files, logging and stopping belong to the loop. A method owns only its
weights, alphas and optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.architecture.genotype import Genotype
    from engine.config import SearchConfig
    from engine.search.candidates import Candidate


@dataclass(frozen=True)
class StepReport:
    """The measurements of one step with m objectives, as plain floats.

    In a step without architecture gradients, `coefficients`, `weights`, `norms`, `raw_norms` and `cosines` are empty. If the step
    measures no losses either, `names` and `losses` are also empty.

    Attributes:
        names: names of the objectives, for example ("natural", "adversarial").
        losses: [m] values of the objectives on the alphas batch, without coefficients. A method with an unrolled step measures
            them at the unrolled weights.
        coefficients: [m] configured factors of the objectives (ARNAS: 1 and lambda).
        weights: [m] weights of the objectives, computed by the solver in this step. The weights are non-negative and sum to 1 if
            `Weighting.on_simplex` is True.
        norms: [m] norms of the architecture gradients after the coefficients and the normalisation are applied.
        raw_norms: [m] norms of the architecture gradients before the coefficients and the normalisation are applied.
        cosines: [m][m] cosines between the architecture gradients; 0 if a gradient is zero.
        natural_accuracy, adversarial_accuracy: accuracy, in 0..1, on the natural and on the adversarial images of the alphas
            batch. Each comes from the passes that gave `losses`, and is None if no objective uses these images.
        train_loss: loss that the weight step minimises on the weights batch; None in a step that does not train.
        train_accuracy: accuracy on the natural images of the weights batch, measured with batch statistics, the new alphas and
            the old weights; None in a step that does not train.
        train_adversarial_accuracy: accuracy on the adversarial images of the weight step; None if there are none.
        passes: number of forward passes in the step.
        stage: `SearchMethod.stage` after the step.
        statistics: BatchNorm statistics that normalised the alphas batch: "batch" or "running".
    """

    names: tuple[str, ...]
    losses: tuple[float, ...]
    coefficients: tuple[float, ...]
    weights: tuple[float, ...]
    norms: tuple[float, ...]
    raw_norms: tuple[float, ...]
    cosines: tuple[tuple[float, ...], ...]
    natural_accuracy: float | None
    adversarial_accuracy: float | None
    train_loss: float | None
    train_accuracy: float | None
    train_adversarial_accuracy: float | None
    passes: int
    stage: str = ""
    statistics: str = "batch"


class SearchMethod(Protocol):
    """The interface that every search method implements. `tests/conformance/test_methods.py` checks this.

    A method is built as `Implementation(config, supernet, device=..., dtype=..., seed=...)`.

    Attributes:
        config: configuration of the method.
        cell_kinds: cell kinds of the published supernet, in the order of the flat alphas. The kinds in use are `supernet.kinds`,
            which can differ if the placement (the rule that gives each layer its kind of cell) is not the published one.
        primitives: operations of the supernet, in the order of the columns of the alphas.
        epoch: epoch of the next steps, set by `begin_epoch`.
        passes_per_step: number of forward passes in one step of the current epoch. The step calls `poll` once for each pass.
        stage: one short line that describes the current stage of the search; empty if the search has a single stage.
        activity: progress message of the step, set before each call of `poll`, for example "PGD step 3 of 7, weights batch".
            If two passes run side by side, the message describes the pass that began last.
        weights: flat weights of the supernet, or of the network in training if the method trains no supernet.
        alphas: flat alphas, followed by the betas of PC-DARTS if the supernet has edge weights. None if the method trains no
            supernet (`SearchConfig.on_supernet` is False).
        buffers: flat BatchNorm buffers.
        candidates: networks that the search has trained and measured one by one, oldest first; `end_epoch` adds new ones.
        steps: number of completed steps.
        notices: sentences to show with the run's results, oldest first; later steps can add new ones.
    """

    config: SearchConfig
    cell_kinds: tuple[str, ...]
    primitives: tuple[str, ...]
    activity: str
    epoch: int
    passes_per_step: int
    stage: str
    weights: Tensor
    alphas: Tensor | None
    buffers: Tensor
    candidates: tuple[Candidate, ...]
    steps: int
    notices: list[str]

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch of the next steps, counted from 0. A fresh method is in epoch 0.

        The loop calls this before every step. `state_dict` therefore need not contain the epoch.
        """
        ...

    def end_epoch(self) -> None:
        """Finish the current epoch after its last step."""
        ...

    def step(self, train_batch: tuple[Tensor, Tensor], alpha_batch: tuple[Tensor, Tensor], *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             out_of_distribution: Tensor | None = None, poll: Callable[[], None] = ...) -> StepReport:
        """Take one step on a batch of the weights split and a batch of the alphas split.

        If `poll` or anything else raises, the state of the method stays unchanged. To repeat the step, restore the state of the
        generator and call this again.

        Args:
            train_batch: images and labels (x, y) of the weights split.
            alpha_batch: images and labels (x, y) of the alphas split. A method without alphas gets the same batch in both
                arguments. The batch comes from the weights split if the step trains a network, and from the select split if it
                measures one.
            learning_rate: learning rate of the weights in this epoch.
            generator: source of the random starts of attacks.
            noise: the random starts themselves, given instead of a generator.
            out_of_distribution: full batch of images [B, C, H, W] of a second dataset, given if
                `SearchConfig.out_of_distribution` names one. The images are in 0..1 if the network does not normalise its input.
                Otherwise they are rescaled by `engine.data.out_of_distribution.restated`. An implementation that never needs them
                may lack the argument.
            poll: called before each forward pass, from any thread but never from two at once. It may raise to abandon the step.
        """
        ...

    def genotype(self) -> Genotype:
        """Return the genotype derived from the current alphas.

        A method without alphas returns the genotype of the best candidate so far.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed search needs.

        The state contains only tensors, numbers and strings, so that it can be loaded with weights_only=True.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            CheckpointError: the state does not fit the method.
        """
        ...
