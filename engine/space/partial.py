"""Partial channel connections and edge weights, as in the released code of PC-DARTS (Xu et al. 2020, arXiv 1907.05737).

The operations of an edge act on the first C / K channels of a state (an input or node of a cell). The other channels bypass the
operations. If the edge halves the map, they pass through a 2x2 max-pool. Both groups of channels are multiplied by the weight of
the edge. After the outputs of all edges into a node have been summed, the node's channels are shuffled. This mixes both groups.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NODES


def bypassed(h: Tensor, weights: Tensor, stride: int) -> Tensor:
    """Return what a state (an input or node of a cell) adds to m later nodes through the channels that bypass the operations.

    Args:
        h: [B, C, H, W], the channels of the state that bypass the operations.
        weights: [m], the weights of the edges from the state to these nodes.
        stride: 1, or 2 if the edges halve height and width.

    Returns:
        [m, B, C, H / stride, W / stride].
    """
    if stride == 2:
        h = F.max_pool2d(h, 2, 2)
    return weights.view(-1, 1, 1, 1, 1) * h


def shuffled(selected: Tensor, others: Tensor) -> Tensor:
    """Join the two parts of a node's channels and shuffle them in K groups.

    Args:
        selected: [B, C / K, H, W], the channels that the operations act on, which are group 0.
        others: [B, C - C / K, H, W], the bypassing channels, which are groups 1 to K - 1.

    Returns:
        [B, C, H, W]. Channel c of group g becomes channel c K + g.
    """
    groups = others.unflatten(1, (-1, selected.shape[1])).transpose(1, 2)
    return torch.cat([selected.unsqueeze(2), groups], dim=2).flatten(1, 2)


def edge_softmax(betas: Tensor) -> Tensor:
    """Return the weights of a cell's edges: the softmax of their betas over the edges into each node.

    Args:
        betas: [..., 14], PC-DARTS's trainable number for each edge, in the order of `genotype.EDGES`.

    Returns:
        [..., 14].
    """
    into_nodes = betas.split([2 + node for node in range(NODES)], dim=-1)
    return torch.cat([F.softmax(into, dim=-1) for into in into_nodes], dim=-1)
