"""The compiled back end: a whole supernet as one differentiable operation, computed by kernels in C.

One operation instead of one per cell saves memory and time. The gradient of the flat weight vector is written where it stays, the
gradients of a map that two cells read are added by the kernels, and autograd keeps one node instead of dozens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from engine.space.compiled.build import unavailable
from engine.space.compiled.calls import Block, StemKept, cell_backward, cell_forward, stem_backward, stem_forward
from engine.space.compiled.memory import DTYPES, check_alike
from engine.space.compiled.once import PLAIN, refuse_second_derivative
from engine.space.layout import CellShape, Layout
from engine.space.normalisation import Normalisation


class Compiled:
    """The compiled back end. It computes a supernet as a whole (`logits`) if it is chosen for all cells.

    Attributes:
        twice: False, because the gradients cannot be differentiated.
    """

    twice = False

    def serves(self, cell: CellShape, x: Tensor, normalisation: Normalisation) -> bool:
        """Return True if the kernels support this cell with tensors like x and this normalisation.

        They need tensors of float32 or float64 on a CPU, normalisation with the batch's statistics, and operations that act on
        all channels.
        """
        return (cell.partial == 1 and x.device.type == "cpu" and x.dtype in DTYPES and not normalisation.running
                and unavailable(DTYPES[x.dtype]) is None)


@dataclass(frozen=True)
class Plan:
    """What a pass needs to know about a supernet.

    Attributes:
        cells: shapes of the cells.
        layout: packing of the flat weight vector.
        parts: layouts of the stem, of each cell and of the classifier, which together are the whole layout.
        kinds: the cell kinds, in the order in which a pass gets their operation weights.
    """

    cells: Sequence[CellShape]
    layout: Layout
    parts: Sequence[Layout]
    kinds: Sequence[str]

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Split a flat vector [n] into one view per part."""
        return self.layout.split(flat, self.parts)


def logits(plan: Plan, x: Tensor, weights: Tensor, rows: Sequence[Tensor], buffers: Sequence[Tensor] | None) -> Tensor:
    """Compute the logits [B, classes] of images. They can be differentiated only once.

    Args:
        plan: the supernet.
        x: images [B, C, H, W], after the normalisation of their channels, on the CPU.
        weights: flat weights [n], like x.
        rows: operation weights [14, 7] of each cell kind, like x.
        buffers: slices of the flat vector of BatchNorm's running statistics, for the stem and for each cell; None if the pass has
            none.

    Raises:
        ConfigError: tensors have different dtypes or devices, or BatchNorm's running statistics are not contiguous.
        CheckpointError: the weights have the wrong length.
    """
    check_alike(x, weights=weights)
    for each in rows:
        check_alike(x, alphas=each)
    for part in buffers or ():
        check_alike(x, buffers=part)
    # Copies belong to the graph: without it, a second derivative would silently lack what goes through them.
    images, weights, *rows = (each.contiguous() for each in (x.permute(1, 2, 3, 0), weights, *rows))
    has_backward = torch.is_grad_enabled() and any(each.requires_grad for each in (images, weights, *rows))
    out: Tensor = _Pass.apply(images, weights, plan, buffers, has_backward, *rows)  # type: ignore[no-untyped-call]
    return out


class _Pass(torch.autograd.Function):
    """The autograd function of a supernet."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weights: Tensor, plan: Plan, buffers: Sequence[Tensor] | None, has_backward: bool,
                *rows: Tensor) -> Tensor:
        """Return the logits [B, classes].

        Args:
            ctx: the context of autograd.
            images: [C, H, W, B].
            weights, plan, buffers, rows: the arguments of `logits`, contiguous.
            has_backward: True if there may be a backward pass, so that its values are kept.
        """
        stem, *cells, classifier = plan.split(weights)
        of_stem, *of_cells = buffers or cast("list[Tensor | None]", [None] * (1 + len(cells)))
        features, stem_kept = stem_forward(images, stem, plan.cells[0].inputs[0], of_stem)
        maps, kept = [features, features], []  # each cell reads the last two
        for cell, part, part_buffers in zip(plan.cells, cells, of_cells, strict=True):
            features, block = cell_forward(cell, maps[-2], maps[-1], part, rows[plan.kinds.index(cell.kind)], part_buffers)
            maps.append(features)
            if has_backward:
                kept.append(block)
            else:
                del maps[0], block  # the next cell reuses the memory
        mean = features.mean(dim=(1, 2)).t().contiguous()  # [B, C]
        views = plan.parts[-1].views(classifier)
        if has_backward:
            ctx.save_for_backward(images, weights, *rows, mean, *stem_kept, *maps)
            ctx.plan, ctx.kept = plan, kept
        return torch.addmm(views["classifier.bias"], mean, views["classifier.weight"].t())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return one gradient per argument of `forward`, or None if a gradient is not needed. g is the gradient of the logits."""
        inputs = ctx.saved_tensors[:2 + len(ctx.plan.kinds)]
        g_images, g_weights, *g_rows = _PassGradients.apply(g, *inputs, ctx)  # type: ignore[no-untyped-call]
        return g_images, g_weights, None, None, None, *g_rows


class _PassGradients(torch.autograd.Function):
    """The backward pass of a supernet. It is an autograd function so that a second derivative raises an error."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, images: Tensor, weights: Tensor, *others: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of the images, the weights and each kind's rows, each None if it is not needed.

        `g` is the gradient of the logits, and `others` are the kinds' rows and the autograd context of `_Pass`.
        """
        *rows, forward = others
        wants_images, wants_weights, _, _, _, *wants_rows = forward.needs_input_grad
        plan: Plan = forward.plan
        mean, *others = forward.saved_tensors[2 + len(rows):]
        stem_kept, maps = StemKept(*others[:3]), others[3:]
        parts = plan.split(weights)
        g_weights = torch.empty_like(weights) if wants_weights else None
        g_parts = plan.split(g_weights) if g_weights is not None else (None,) * len(parts)
        g_rows = [torch.zeros_like(each) if wanted else None for each, wanted in zip(rows, wants_rows, strict=True)]

        wants_stem = wants_images or wants_weights
        g_maps: list[Tensor | None] = [None] * len(maps)
        g_maps[-1] = _classifier_backward(plan.parts[-1], g, parts[-1], g_parts[-1], mean, maps[-1])
        for i in reversed(range(len(plan.cells))):
            _cell_backward(plan, i, maps, forward.kept[i], parts[1 + i], g_parts[1 + i], rows, g_rows, g_maps, wants_stem)
        g_images = torch.empty_like(images) if wants_images else None
        if wants_stem:
            assert g_maps[1] is not None
            stem_backward(g_maps[1], images, parts[0], stem_kept, g_images, g_parts[0])
        return g_images, g_weights, *g_rows

    backward = staticmethod(refuse_second_derivative("supernet", PLAIN))


def _classifier_backward(layout: Layout, g: Tensor, weights: Tensor, g_weights: Tensor | None, mean: Tensor,
                         features: Tensor) -> Tensor:
    """Return the gradient of the last cell's output, like `features` [C, H, W, B]. Write the classifier's gradients to g_weights.

    Args:
        layout: the packing of the classifier's weights.
        g: gradient of the logits, [B, classes].
        weights: the classifier's slice of the flat weights.
        g_weights: where to write their gradient; None if it is not needed.
        mean: the classifier's input, [B, C]: the mean of the features.
        features: output of the last cell.
    """
    if g_weights is not None:
        views = layout.views(g_weights)
        torch.mm(g.t(), mean, out=views["classifier.weight"])
        torch.sum(g, 0, out=views["classifier.bias"])
    _, height, width, _ = features.shape
    g_mean = (g @ layout.views(weights)["classifier.weight"]).t() / (height * width)
    return g_mean[:, None, None, :].expand_as(features).contiguous()


def _cell_backward(plan: Plan, i: int, maps: Sequence[Tensor], kept: Block, weights: Tensor, g_weights: Tensor | None,
                   rows: Sequence[Tensor], g_rows: Sequence[Tensor | None], g_maps: list[Tensor | None],
                   wants_stem: bool) -> None:
    """Compute the gradients of cell i, and add them to those of its inputs and of its kind's rows.

    Args:
        plan: the supernet.
        i: index of the cell.
        maps: the stem's maps twice, then each cell's output.
        kept: what the cell's forward pass has kept.
        weights: the cell's slice of the flat weights.
        g_weights: where to write their gradient; None if it is not needed.
        rows: each kind's operation weights.
        g_rows: sums of their gradients so far; None if they are not needed.
        g_maps: gradients of `maps`, None where there is none yet. The gradient of the cell's output is removed.
        wants_stem: True if the gradient of the stem's maps is needed.
    """
    cell, kind = plan.cells[i], plan.kinds.index(plan.cells[i].kind)
    g, g_maps[i + 2] = g_maps[i + 2], None
    assert g is not None
    if i == 0:
        g_maps[0] = g_maps[1]  # both inputs are the stem's maps
    adds = tuple(each is not None for each in g_maps[i:i + 2])
    for source in (i, i + 1):
        if g_maps[source] is None and (wants_stem or source >= 2):
            g_maps[source] = torch.empty_like(maps[source])
    g_row = None if g_rows[kind] is None else torch.empty_like(rows[kind])
    cell_backward(cell, g, (*maps[i:i + 2], weights, rows[kind]), maps[i + 2], kept,
                  (*g_maps[i:i + 2], g_weights, g_row), (adds[0], adds[1]))
    if g_row is not None:
        g_rows[kind].add_(g_row)  # type: ignore[union-attr]
