"""The supernet's unit of work: one state of a cell and all edges that leave it. Back ends compute it differently.

ReLU, both pools and their BatchNorm are computed once per state; the convolutions of all its edges are merged. Every back
end computes the same function of the same packed tensors, so that they differ by rounding only; `choose` picks one per
cell from what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from engine.registry import Registry
from engine.space.convolutional import ChannelsLast, Merged
from engine.space.dense import LARGEST_MAP, Dense
from engine.space.layout import CellShape, StateShape
from engine.space.normalisation import Normalisation

# From here on per-edge convolutions in channels_last beat merged ones on a CPU (measured: 8 merged, 24 channels_last).
CHANNELS_LAST_FROM = 16


class Backend(Protocol):
    """What a cell is computed with. Maps are [B, C, H, W] in shape; how they lie in memory is the back end's own affair."""

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """1x1 convolution of x [B, I, H, W] with weight [O, I]."""

    def normalise(self, x: Tensor, normalisation: Normalisation, name: str) -> Tensor:
        """BatchNorm without affine of x [B, C, H, W]; `name` is that of its buffers."""

    def state(self, h: Tensor, weights: Mapping[str, Tensor], rows: Tensor, shape: StateShape,
              normalisation: Normalisation) -> Tensor:
        """What a state contributes to each later node.

        Args:
            h: the state, [B, C, H, W].
            weights: views of the flat weight vector, by name.
            rows: [m, 7] softmaxed alphas of the m edges leaving the state, columns in the order of `PRIMITIVES`.
            shape: the state's names, edges and stride.
            normalisation: which statistics to use, and whether to update them.

        Returns:
            [m, B, C, H / stride, W / stride], one per edge by rising node. Differentiable, also twice, in h, weights and
            rows; only gradients that are asked for are computed.
        """


BACKENDS: Registry[Backend] = Registry("back end")
BACKENDS.add("dense", Dense())
BACKENDS.add("merged", Merged())
BACKENDS.add("channels_last", ChannelsLast())


def choose(cell: CellShape, device_type: str) -> str:
    """Name of the fastest back end for a cell on "cpu", "cuda", ..."""
    height, width = cell.map_size
    if height * width <= LARGEST_MAP:
        return "dense"
    return "channels_last" if device_type == "cpu" and cell.channels >= CHANNELS_LAST_FROM else "merged"
