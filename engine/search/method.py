"""The contract between a search method and the loop that drives it. Imports no torch at run time.

The loop builds the supernet and the method. For each step it draws a batch of the weights split, one of the alphas split and,
where the configuration names a second dataset, one of its images, and calls `step`; after the last step of an epoch it calls
`end_epoch`. Epochs, learning-rate schedule, data, augmentation, files, logging and stopping belong to the loop. A method owns
its weights, alphas and optimisers, nothing else.
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
    """The measurements of one step with m objectives; all numbers are plain floats.

    Without architecture gradients, `names` and `losses` hold the measurements on the second batch, if there are any, and
    the fields from `coefficients` to `cosines` are empty.

    Attributes:
        names: objectives, for example ("natural", "adversarial"); empty in a warm-up, which does not update the alphas.
        losses: [m] value of each objective on the alphas batch, before its coefficient, at the weights where its
            architecture gradient was taken (after the unrolled step, where the method has one).
        coefficients: [m] factor of each objective (ARNAS: 1 and lambda).
        weights: [m] the solver's weights; on the simplex if the weighting is (`Weighting.on_simplex`).
        norms: [m] norms of the architecture gradients as they enter the solver: coefficient and normalisation included.
        raw_norms: [m] norms before coefficient and normalisation.
        cosines: [m][m] cosines between the architecture gradients (independent of their scale); 0 where a gradient is zero.
        natural_accuracy, adversarial_accuracy: on the alphas batch with `statistics`, from the passes that gave
            `losses`; fractions in 0..1. None where no objective of the step uses such images.
        train_loss: loss of the weight step on the weights batch (adversarial images where the method trains on them). Like
            the accuracies below, None in a step that trains nothing.
        train_accuracy: accuracy on the natural images of the weights batch, with batch statistics, the alphas of this step
            and the weights before it.
        train_adversarial_accuracy: accuracy on the images of the weight step; None where they are natural.
        passes: forward passes of the step.
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
    """The interface of every class named by a `Method.implementation`; `tests/conformance/test_methods.py` checks it.

    It is built as `Implementation(config, supernet, device=..., dtype=..., seed=...)`.

    Attributes:
        config: its configuration.
        cell_kinds: cell kinds of its supernet as published, in the order of the flat alphas. The position rule of the
            configuration may give the actual supernet others (`supernet.kinds`).
        primitives: columns of the alphas of its supernet.
        epoch: set by `begin_epoch`.
        passes_per_step: forward passes of one step of the present epoch, hence calls of `poll`: progress inside a step.
        stage: one short line on the present stage of a search of several; empty for one stage.
        activity: progress message of the step, set before each call of `poll`: "PGD step 3 of 7, weights batch"; of two
            passes side by side, that of the one that began last.
        weights: flat weights of the supernet, or of the network in training.
        alphas: flat alphas, followed by the betas of a supernet with edge weights; None where there is no supernet
            (`SearchConfig.on_supernet`).
        buffers: flat BatchNorm buffers.
        candidates: networks that were trained one by one and measured, oldest first; `end_epoch` appends to them.
        steps: completed steps.
        notices: sentences for the reader of the run, oldest first; later steps append to them.
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

        The loop calls it before every step. The epoch is not part of `state_dict`, since the loop restores it.
        """
        ...

    def end_epoch(self) -> None:
        """Finish the present epoch after its last step."""
        ...

    def step(self, train_batch: tuple[Tensor, Tensor], alpha_batch: tuple[Tensor, Tensor], *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             out_of_distribution: Tensor | None = None, poll: Callable[[], None] = ...) -> StepReport:
        """Take one step on a batch (x, y) of the weights split and one of the alphas split.

        A method without alphas is given one batch as both: of the weights split to train on, or of the select split to measure
        on. out_of_distribution is given where `SearchConfig.out_of_distribution` names a dataset: images [B, C, H, W] in 0..1,
        or scaled so that a network that normalises sees them normalised by the numbers of their own dataset; B as in full
        batches. A method whose configuration names none need not have the argument.

        All or nothing: when `poll` (called before each forward pass, from any thread, never twice at a time) or anything
        else raises, the method is unchanged, and the same call with the same generator state gives the same result.
        """
        ...

    def genotype(self) -> Genotype:
        """Return the architecture that the alphas derive now, or that of the best candidate so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed search needs; tensors, numbers and strings only (loadable with weights_only=True)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`.

        Raises:
            CheckpointError: the state does not fit.
        """
        ...
