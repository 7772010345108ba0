"""Partial channel connections and edge weights (PC-DARTS, Xu et al. 2020, arXiv 1907.05737, as in its released code).

The operations of an edge act on the first C / K channels of a state; the other channels bypass them, through a 2x2 max-pool
where the operations halve the map. Both parts are multiplied by the weight of the edge. The channels are then shuffled in K
groups, which mixes processed and bypassed channels in the part that the next operations act on. Shuffling commutes with
addition, so a node is shuffled once, after all its edges have been added.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NODES


def bypassed(h: Tensor, weights: Tensor, stride: int) -> Tensor:
    """Return the contribution of the bypassing channels h [B, C, H, W] to m edges with the given weights [m].

    Returns:
        [m, B, C, H / stride, W / stride].
    """
    if stride == 2:
        h = F.max_pool2d(h, 2, 2)
    return weights.view(-1, 1, 1, 1, 1) * h


def shuffled(selected: Tensor, others: Tensor) -> Tensor:
    """Join the first C / K channels of a node with the others [B, C - C / K, H, W] and shuffle them in K groups.

    `selected` [B, C / K, H, W] is group 0. Channel c of group g becomes channel c K + g.

    Returns:
        [B, C, H, W].
    """
    groups = others.unflatten(1, (-1, selected.shape[1])).transpose(1, 2)
    return torch.cat([selected.unsqueeze(2), groups], dim=2).flatten(1, 2)


def edge_softmax(betas: Tensor) -> Tensor:
    """Apply softmax to betas [..., 14] over the edges into each node; edges in the order of `genotype.EDGES`."""
    into_nodes = betas.split([2 + node for node in range(NODES)], dim=-1)
    return torch.cat([F.softmax(into, dim=-1) for into in into_nodes], dim=-1)
