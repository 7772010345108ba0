"""What a search method and the loop that drives it say to each other. Imports no torch at run time.

The life of a search: the loop builds the supernet and the method, then for each step draws one batch of the weights
split and one of the alphas split, where the configuration asks for it one of a second dataset's images, and calls `step`, and
behind the last step of an epoch `end_epoch`. Epochs, learning-rate schedule, data, augmentation, files, logging and stopping
belong to the loop; a method owns its weights, alphas and optimisers and nothing else.
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
    """What one step measured. m objectives; all numbers are plain floats.

    Without architecture gradients, `names` and `losses` are what was measured on the alphas batch, if anything, and
    `coefficients` to `cosines` are empty.

    Attributes:
        names: the objectives, for example ("natural", "adversarial"); none in a warm-up, in which the alphas rest.
        losses: [m] value of each objective on the alphas batch, before its coefficient, at the weights where its
            architecture gradient was taken (after the unrolled step, where the method has one).
        coefficients: [m] what each objective is multiplied by (ARNAS: 1 and lambda).
        weights: [m] the solver's weights; on the simplex unless the method's weighting says otherwise.
        norms: [m] norms of the architecture gradients as they enter the solver: coefficient and normalisation included.
        raw_norms: [m] norms before coefficient and normalisation.
        cosines: [m][m] cosines between the architecture gradients (free of scale); 0 where a gradient is zero.
        natural_accuracy, adversarial_accuracy: on the alphas batch with `statistics`, from the passes that gave
            `losses`; fractions in 0..1. None where no objective of the step sees such images.
        train_loss: loss of the weight step on the weights batch (adversarial images where the method trains on them). None,
            with the accuracies below, in a step that trains nothing.
        train_accuracy: accuracy on the natural weights batch, batch statistics, alphas of this step, weights before it.
        train_adversarial_accuracy: accuracy on the images of the weight step; None where they are natural.
        passes: forward passes that the step took.
        stage: `SearchMethod.stage` after the step.
        statistics: what BatchNorm normalised the alphas batch with: "batch" or "running".
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
    """What every class named by a `Method.implementation` offers; `tests/conformance/test_methods.py` checks it.

    It is built as `Implementation(config, supernet, device=..., dtype=..., seed=...)`.

    Attributes:
        config: what it was built with.
        cell_kinds: cell kinds of its supernet as published, in the order of the flat alphas. The supernet it is given has those
            of its configuration's position rule, which may be others (`supernet.kinds`).
        primitives: columns of the alphas of its supernet.
        epoch: as `begin_epoch` said.
        passes_per_step: forward passes of one step of the present epoch, hence calls of `poll`: progress inside a step.
        stage: where the present epoch stands in a search of several stages, one short line; empty for one stage.
        activity: what the step is doing, in words, set before each call of `poll`: "PGD step 3 of 7, weights batch"; of two
            passes side by side, the one that began last.
        weights: flat weights of the supernet, or of the network that is trained now.
        alphas: flat alphas, behind them the betas of a supernet with edge weights; None where there is no supernet
            (`SearchConfig.on_supernet`).
        buffers: flat BatchNorm buffers.
        candidates: networks that were trained one by one and measured, oldest first; only ever added to, by `end_epoch`.
        steps: completed steps.
        notices: sentences that whoever watches the run should read, oldest first; only ever added to.
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
        """The steps to come belong to this epoch, counted from 0. A fresh method is in epoch 0.

        The loop says so before every step. The epoch is no part of `state_dict`: who resumes a search knows it.
        """
        ...

    def end_epoch(self) -> None:
        """The last step of the present epoch is done."""
        ...

    def step(self, train_batch: tuple[Tensor, Tensor], alpha_batch: tuple[Tensor, Tensor], *, learning_rate: float,
             generator: torch.Generator | None = None, noise: tuple[Tensor, Tensor] | None = None,
             out_of_distribution: Tensor | None = None, poll: Callable[[], None] = ...) -> StepReport:
        """One step on a batch (x, y) of the weights split and one of the alphas split.

        out_of_distribution comes exactly where `SearchConfig.out_of_distribution` names a dataset: [B, C, H, W] of its images,
        B as in the other batches when full, in 0..1, or scaled so that a network that normalises sees them normalised by the
        numbers of their own dataset. A method whose configuration names none need not have the argument.

        All or nothing: when `poll` (called before each forward pass, from any thread, never twice at a time) or anything
        else raises, the method is exactly what it was, and the same call with the same generator state gives the same result.
        """
        ...

    def genotype(self) -> Genotype:
        """The architecture that the alphas stand for now, or that of the best candidate so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed search needs; tensors, numbers and strings only (loadable with weights_only=True)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state_dict`; refuses one that does not fit with a `CheckpointError`."""
        ...
