"""Objectives on the size of the network that the alphas describe: its number of parameters or multiply-adds (MACs).

Every count is linear in softmax(alpha). One table per supernet, [kinds, 14 edges, primitives], therefore describes a count:

- `published_parameters`: the parameter count of the 2020 version of E2RNAS (arXiv 2011.09820, code of 2020-11).
- `published_macs`: the MAC count of the 2021 version of E2RNAS (code of 2021-03).
- `module_parameters`: the parameter count of the 2021 version of E2RNAS, which counts the real modules.
- `module_macs`: our correction of `published_macs`, which also counts the real modules.

As in the published code, no count includes the stem, the preprocessing of cell inputs and the classifier, which are the same in
every architecture. For one-hot alphas with "none" on every dropped edge, `module_parameters` equals the count of
`engine.architecture.cost` for the edges of the derived network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.architecture.genotype import EDGES
from engine.architecture.placement import halved
from engine.search.registries import Bound, Objective, Value
from engine.space.layout import CellShape

if TYPE_CHECKING:
    from engine.space.supernet import Supernet

Count = Callable[[CellShape, int, str], float]


def published_parameters(cells: Sequence[CellShape], kinds: Sequence[str], primitives: Sequence[str]) -> Tensor:
    """Return the parameter count of the 2020 version of E2RNAS, including its mistake.

    The released code multiplies softmax(alpha) [14, 8] by the costs [8, 14] and sums the columns of the product. Every edge
    therefore gets the summed cost of all 14 edges, multiplied by 2 / (number of edges into the node). At equal alphas, 16
    channels and 8 layers, the result is 1,831,168 instead of the intended 131,157. BatchNorm is not counted.

    Args:
        cells: shape of every cell of the supernet.
        kinds: cell kinds of the supernet, in the order of its alphas.
        primitives: operations of the supernet, in the order of its alphas.

    Returns:
        [kinds, 14, primitives] float64 count of each operation on each edge.
    """
    def count(cell: CellShape, edge: int, primitive: str) -> float:
        return 2 / EDGES[edge][1] * sum(_convolutions(cell, column, primitive) for column in range(len(EDGES)))

    return _table(count, cells, kinds, primitives)


def module_parameters(cells: Sequence[CellShape], kinds: Sequence[str], primitives: Sequence[str]) -> Tensor:
    """Return the parameter count of the 2021 version of E2RNAS: the parameters of the modules that compute each operation.

    The count includes convolutions and BatchNorm's scale and shift. `published_parameters` describes arguments and result.
    """
    def count(cell: CellShape, edge: int, primitive: str) -> float:
        return _convolutions(cell, edge, primitive) + 2 * cell.channels * _norms(cell, edge, primitive)

    return _table(count, cells, kinds, primitives)


def published_macs(cells: Sequence[CellShape], kinds: Sequence[str], primitives: Sequence[str]) -> Tensor:
    """Return the multiply-adds as the 2021 version of E2RNAS counts them, including two mistakes.

    The count assumes 32x32 maps in every cell. It also gives avg_pool_3x3, which has no multiply-adds, the count 1024 C^2 of a
    1x1 convolution. `published_parameters` describes the arguments and the result.
    """
    def count(cell: CellShape, edge: int, primitive: str) -> float:
        c = cell.channels
        if primitive == "skip_connect" and _stride(cell, edge) == 2:
            return 256 * c * c + 2048 * c
        return {"avg_pool_3x3": 1024 * c * c, "sep_conv_3x3": 26952 * c + 2048 * c * c,
                "sep_conv_5x5": 69920 * c + 2048 * c * c, "dil_conv_3x3": 13476 * c + 1024 * c * c,
                "dil_conv_5x5": 39172 * c + 1024 * c * c}.get(primitive, 0)

    return _table(count, cells, kinds, primitives)


def module_macs(cells: Sequence[CellShape], kinds: Sequence[str], primitives: Sequence[str]) -> Tensor:
    """Return the number of multiply-adds of each operation on each edge, as the supernet's modules compute them.

    The count uses the true resolution of each edge. `published_parameters` describes the arguments.

    Returns:
        [kinds, 14, primitives], float64.
    """
    def count(cell: CellShape, edge: int, primitive: str) -> float:
        # Every convolution of an operation computes maps of the operation's own output.
        pixels = prod(halved(side) if cell.reduction else side for side in cell.map_size)
        return pixels * _convolutions(cell, edge, primitive)

    return _table(count, cells, kinds, primitives)


def _table(count: Count, cells: Sequence[CellShape], kinds: Sequence[str], primitives: Sequence[str]) -> Tensor:
    return torch.tensor([[[sum(count(cell, edge, primitive) for cell in cells if cell.kind == kind)
                           for primitive in primitives] for edge in range(len(EDGES))] for kind in kinds], dtype=torch.float64)


def _stride(cell: CellShape, edge: int) -> int:
    return 2 if cell.reduction and EDGES[edge][0] < 2 else 1


def _convolutions(cell: CellShape, edge: int, primitive: str) -> int:
    """Count the weights of the convolutions in one operation on one edge."""
    c = cell.channels
    if primitive == "skip_connect":
        return c * c if _stride(cell, edge) == 2 else 0
    if "conv" not in primitive:
        return 0
    once = c * int(primitive[-1]) ** 2 + c * c  # depthwise, then 1x1
    return 2 * once if primitive.startswith("sep") else once


def _norms(cell: CellShape, edge: int, primitive: str) -> int:
    """Count the BatchNorm layers with scale and shift in one operation on one edge."""
    if primitive == "skip_connect":
        return 1 if _stride(cell, edge) == 2 else 0
    return 0 if "conv" not in primitive else 2 if primitive.startswith("sep") else 1


def expected(table: Tensor, alphas: Tensor) -> Tensor:
    """Return the count expected under softmax(alphas), as a scalar.

    Args:
        table: [kinds, edges, primitives] count of each operation.
        alphas: flat, in the order of the table. The betas of PC-DARTS may follow the alphas. They have no effect on the count.
    """
    return (table * alphas[:table.numel()].view(table.shape).softmax(dim=-1)).sum()


def range_of(table: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value of `expected` over all alphas.

    Both values are reached in the limit of one-hot alphas.

    Returns:
        smallest: the smallest value.
        largest: the largest value.
    """
    return table.min(dim=-1).values.sum().item(), table.max(dim=-1).values.sum().item()


def same_quantile(bound: float, table: Tensor, other: Tensor) -> float:
    """Convert a bound on one count, such as MACs, to a bound on another count, such as parameters.

    Each count has a range, from the smallest to the largest architecture (see `range_of`). If `bound` lies in the middle of the
    range of its count, the result lies in the middle of the range of the other count, and likewise for every other fraction.

    Args:
        bound: bound on the count of `table`.
        table: [kinds, edges, primitives], the first count of each operation.
        other: [kinds, edges, primitives], the other count of each operation.
    """
    (low, high), (other_low, other_high) = range_of(table), range_of(other)
    return other_low + (bound - low) / (high - low) * (other_high - other_low)


def bounded(count: Tensor, how: Bound, lower: float, upper: float) -> Tensor:
    """Return a published loss of a count N with the bounds L = lower and U = upper.

    | how       | loss                            | released code of E2RNAS |
    |-----------|---------------------------------|-------------------------|
    | none      | N                               | 2020 and 2021           |
    | max       | max(1, N - U)                   | 2020 and 2021           |
    | min       | max(1, L - N): grow until L     | 2020                    |
    | min_later | max(L, N): shrink until L       | from 2020-11-17         |
    | abs       | abs(L - N)                      | 2021                    |
    | both      | N + max(1, N - U, L - N)        | 2021                    |

    Where a maximum equals its constant (1 or L), its gradient is exactly zero. The losses max, min and min_later then do not
    affect the architecture.
    """
    one = torch.ones_like(count)
    if how == "max":
        return torch.maximum(one, count - upper)
    if how == "min":
        return torch.maximum(one, lower - count)
    if how == "min_later":
        return torch.maximum(lower * one, count)
    if how == "abs":
        return (lower - count).abs()
    if how == "both":
        return count + torch.maximum(torch.maximum(one, count - upper), lower - count)
    return count


def inert_notice(of: str) -> str:
    """Return a message that says that a size objective does not affect the architecture at the moment.

    Args:
        of: name of what the objective counts, for example "parameters".
    """
    return (f"The size objective of the {of} is inert: at the present count (the method's own) its loss is constant "
            "and its gradient is zero. The architecture does not follow it until the count crosses the bound.")


def size_objective(name: str, table: Tensor, how: Bound = "none", lower: float = 0.0, upper: float = 0.0,
                   unit: str = "parameters") -> Objective:
    """Return an objective on the number of parameters or MACs of the network. It needs no forward passes.

    Args:
        name: name in reports, for example "parameters".
        table: [kinds, 14, primitives], number of parameters or MACs of each operation on each edge, in the unit of the bounds.
            The flattened table has the order, device and dtype of the flat alphas.
        how, lower, upper: form and bounds of the loss; see `bounded`.
        unit: name of the table's unit.
    """
    return Objective(name, bounded_count, passes=0, unit=unit, constants=(how, lower, upper), inputs=(table,))


def bounded_count(how: Bound, lower: float, upper: float, weights: Tensor, alphas: Tensor, table: Tensor) -> Value:
    """Evaluate a size objective: the loss that `bounded` computes from the expected number of parameters or MACs.

    Args:
        how, lower, upper: form of the loss and its bounds, see `bounded`.
        weights: flat weights of the supernet. Their gradient is zero.
        alphas: flat alphas.
        table: [kinds, 14, primitives] parameters or MACs of each operation.
    """
    # The sum over no weights makes the gradient of the weights zero instead of missing.
    return Value(bounded(expected(table, alphas), how, lower, upper) + weights[:0].sum(), None)


def parameter_share(network: Supernet, weights: Tensor, alphas: Tensor) -> Value:
    """Compute the expected parameters of a network, as a fraction of the parameters of the largest architecture.

    The expectation is over softmax(alphas). `module_parameters` gives the parameters of each operation.
    """
    return bounded_count("none", 0.0, 0.0, weights, alphas, _shares_of(module_parameters, network, alphas))


def mac_share(network: Supernet, weights: Tensor, alphas: Tensor) -> Value:
    """Compute the expected multiply-adds of a network, as a fraction of the multiply-adds of the costliest architecture.

    The expectation is over softmax(alphas). `module_macs` gives the multiply-adds of each operation.
    """
    return bounded_count("none", 0.0, 0.0, weights, alphas, _shares_of(module_macs, network, alphas))


def shares(table: Tensor) -> Tensor:
    """Return a table of counts, divided by the largest value that `expected` can reach with this table.

    With the divided table, `expected` is in 0..1 for a supernet of any size. Undivided counts are in the hundreds of thousands.
    Their gradients would be far longer than the gradients of losses of a few nats.
    """
    return table / range_of(table)[1]


def _shares_of(make: Callable[..., Tensor], network: Supernet, alphas: Tensor) -> Tensor:
    return _table_on(make, network.cells, network.kinds, network.primitives, alphas.device, alphas.dtype)


@cache  # without a limit, because a recorded pass keeps reading the table from its place in memory
def _table_on(make: Callable[..., Tensor], cells: tuple[CellShape, ...], kinds: tuple[str, ...], primitives: tuple[str, ...],
              device: torch.device, dtype: torch.dtype) -> Tensor:
    return shares(make(cells, kinds, primitives)).to(device, dtype)
