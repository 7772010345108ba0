"""The derived network, which is built from a genotype, trained from scratch and attacked.

Cells and their names follow the public DARTS family (Liu, Simonyan and Yang 2018, arXiv 1806.09055), so that
`load_darts_state_dict` can load the family's state dicts. `engine.architecture.placement` sets the order and widths of the cells.
The network takes pixels in 0..1 and normalises them itself, so that an attack radius means the same for every network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from engine.architecture import genotype as genotypes
from engine.architecture.cost import AUXILIARY_CHANNELS
from engine.architecture.genotype import Genotype
from engine.architecture.placement import STEM_MULTIPLIER, CellPosition, auxiliary_map, check_size, positions, reductions
from engine.errors import CheckpointError, ConfigError
from engine.space import derived
from engine.space.darts_names import first_few, tensors_of
from engine.space.part import Part
from engine.space.primitives import FactorizedReduce, ReLUConvBN, drop_path, dropped_scale, operation

NORMALISATION = ("mean", "std")  # buffers of `Network` that files of the DARTS family lack
ALPHAS = r"(^|\.)_?(alphas?|arch_parameters)([._]|$)"  # names of architecture weights in files saved by a search


class Cell(nn.Module):
    """One cell of a derived network. It has two inputs of any width. Its output has `len(concat) * width` channels."""

    def __init__(self, genotype: genotypes.Cell, position: CellPosition, before_last: int, last: int, width: int) -> None:
        """Build the cell.

        Args:
            genotype: the operations and inputs of the cell.
            position: the cell's position in the network.
            before_last: output channels of the cell before the previous one (or of the stem).
            last: output channels of the previous cell (or of the stem).
            width: channels of each node.
        """
        super().__init__()
        self.preprocess0 = FactorizedReduce(before_last, width) if position.after_reduction else ReLUConvBN(before_last, width)
        self.preprocess1 = ReLUConvBN(last, width)
        self._ops = nn.ModuleList(
            operation(name, width, 2 if position.reduction and state < 2 else 1) for name, state in genotype.edges)
        self.inputs = tuple(state for _, state in genotype.edges)
        self.concat = genotype.concat

    def forward(self, before_last: Tensor, last: Tensor, drop_probability: float, generator: torch.Generator | None) -> Tensor:
        """Compute the cell's output [B, len(concat) * width, H', W'] from the outputs of the two cells before it.

        Drop path is active only in training mode.
        """
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for first in range(0, len(self.inputs), 2):
            values = []
            for edge in (first, first + 1):
                value = self._ops[edge](states[self.inputs[edge]])
                # An identity skip connection is never dropped, because a node could lose all its input (DARTS).
                if self.training and drop_probability > 0 and not isinstance(self._ops[edge], nn.Identity):
                    value = drop_path(value, drop_probability, generator)
                values.append(value)
            states.append(values[0] + values[1])
        return torch.cat([states[state] for state in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """An auxiliary classifier after the second reduction cell, as in DARTS's code. Training uses it for an additional loss.

    Args:
        channels: channels of the head's input.
        classes: number of classes.
        kernel: (height, width) of the last convolution's kernel. It must be the size of the feature maps after pooling: 2x2 for
            32x32 images, 4x4 for 64x64 images.
    """

    def __init__(self, channels: int, classes: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        middle, features = AUXILIARY_CHANNELS
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3),
            nn.Conv2d(channels, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, features, kernel, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


class Network(nn.Module):
    """A network of stacked cells that is built from a genotype.

    Attributes:
        drop_path: probability 0 <= p < 1 of dropping an operation's output for an image. It is active only in training mode. A
            tensor (see `primitives.dropped_scale`) makes passes independent of its value, so that they can be recorded.
        drop_path_generator: source of drop path's random numbers, on the images' device; None for torch's global generator.
        part: part of a batch that the next images are, if several processes share the batch; None for a whole batch. Drop path
            needs it.
        genotype, channels, layers, classes, image_shape: the constructor's arguments of the same names.
        channels_last: True to use the channels_last memory format. False to use it only where it is faster, that is, on a CPU
            with many channels. It is never used for small images (`derived.fits_rows`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, genotype: Genotype, *, channels: int, layers: int, classes: int, image_shape: Sequence[int],
                 auxiliary: bool = False, placement: str = "", width_ratio: str = "", mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None) -> None:
        """Build the network with torch's default initialisation, drawn from the global generator.

        Args:
            genotype: the architecture.
            channels: C, the width of the first cells.
            layers: number of cells, at least 3.
            classes: number of classes.
            image_shape: (channels, height, width) of an image.
            auxiliary: True to build the auxiliary head.
            placement: name of the rule that gives the cell kind at each position; empty for the rule published for the genotype's
                cell kinds.
            width_ratio: widths of the network's three thirds, such as "1:2:4"; empty for the published ratio.
            mean: one number per image channel. The network subtracts it from pixels in 0..1. None for 0.
            std: one number per image channel. The network divides by it after the subtraction. None for 1.

        Raises:
            ConfigError: sizes are invalid, the placement is for other cell kinds, or mean or std has the wrong length.
        """
        super().__init__()
        check_size(channels, classes, image_shape, width_ratio)
        self.genotype, self.channels, self.layers, self.classes = genotype, channels, layers, classes
        self.image_shape = tuple(image_shape)
        self.channels_last = False
        self.drop_path: float | Tensor = 0.0
        self.drop_path_generator: torch.Generator | None = None
        self.part: Part | None = None
        self.register_buffer("mean", per_channel("mean", mean, 0.0, image_shape[0]))
        self.register_buffer("std", per_channel("std", std, 1.0, image_shape[0]))

        last = before_last = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(nn.Conv2d(image_shape[0], last, 3, padding=1, bias=False), nn.BatchNorm2d(last))
        self.cells = nn.ModuleList()
        for i, position in enumerate(positions(genotype.kinds, layers, placement, width_ratio)):
            cell, width = genotype.cell(position.kind), position.channels_multiplier * channels
            self.cells.append(Cell(cell, position, before_last, last, width))
            before_last, last = last, len(cell.concat) * width
            if auxiliary and i == reductions(layers)[1]:
                self.auxiliary_head = AuxiliaryHead(last, classes, auxiliary_map(image_shape))
        self.classifier = nn.Linear(last, classes)

    @property
    def auxiliary(self) -> bool:
        """True if the network has an auxiliary head."""
        return hasattr(self, "auxiliary_head")

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits [B, classes] of images x [B, C, H, W], pixels in 0..1. The auxiliary head is not run."""
        logits: Tensor = self.classifier(self._maps(x)[0].mean(dim=(2, 3)))
        return logits

    def frozen(self, compiled: bool = True) -> Callable[[Tensor], Tensor]:
        """Return `forward` in evaluation mode as a function, with the current parameters and statistics as constants.

        The function maps x [B, *image_shape] to logits [B, classes]. It equals `forward` up to rounding, and is several times
        faster. Its gradients with respect to the images are several times faster too. Later changes to the network do not affect
        the function.

        Args:
            compiled: True to use compiled kernels if they support the network. These kernels ignore autocast. False to use
                PyTorch's operations.
        """
        _, height, width = self.image_shape
        return (derived.frozen if compiled else derived.frozen_by_layout)(self, (height, width))

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the logits of the network and the logits of the auxiliary head.

        Returns:
            logits: [B, classes], as `forward` returns them.
            auxiliary_logits: [B, classes]; None if the network has no auxiliary head.
        """
        final, middle = self._maps(x)
        logits = self.classifier(final.mean(dim=(2, 3)))
        return logits, self.auxiliary_head(middle) if self.auxiliary else None

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the maps that the classifier and the auxiliary head read.

        Returns:
            last: output of the last cell.
            auxiliary: output of the second reduction cell.
        """
        if self.training:
            layout = derived.layout_of(self, x, live=True)
            drops = isinstance(self.drop_path, Tensor) or self.drop_path > 0  # to compare a tensor would wait for its device
            drop_scale = partial(self._drop_scale, len(x)) if drops else None
            outputs = derived.Program(self, layout, (x.shape[2], x.shape[3]))(x, drop_scale)
            return outputs[-1](), outputs[reductions(self.layers)[1]]()
        before_last = last = self.stem((x - self.mean[:, None, None]) / self.std[:, None, None])
        second_reduction = reductions(self.layers)[1]
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self.drop_path, self.drop_path_generator)
            if i == second_reduction:
                middle = last
        return last, middle

    def _drop_scale(self, images: int, like: Tensor) -> Tensor:
        return dropped_scale(images, self.drop_path, self.drop_path_generator, like, self.part)


def load_darts_state_dict(network: Network, state: Any) -> None:
    """Load a state dict with the names of the public DARTS family into `network`. An error leaves the network unchanged.

    The prefix `module.` (of DataParallel) is removed and alphas are ignored. BatchNorm's `num_batches_tracked` may be missing, as
    in files of old torch versions. If the file has no `mean` or `std`, the network's `mean` or `std` does not change.

    Args:
        network: a network built with the genotype, channels, layers, classes and auxiliary head of the file.
        state: mapping from names to tensors, or a checkpoint that holds such a mapping under "state_dict".

    Raises:
        CheckpointError: `state` is not such a mapping, or entries are missing, unexpected, wrongly shaped or not finite. The
            message names the first few entries.
    """
    # Some files store the normalisation as [1, C, 1, 1].
    entries = {name: value.flatten() if name in NORMALISATION else value for name, value in tensors_of(state, ALPHAS).items()}
    expected = network.state_dict()
    missing = [name for name in expected
               if name not in entries and name not in NORMALISATION and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in entries if name not in expected]
    if missing or unexpected:
        raise CheckpointError(_names_sentence(missing, unexpected))
    shapes = [f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
              for name, value in entries.items() if value.shape != expected[name].shape]
    if shapes:
        raise CheckpointError(f"The shapes of a state dict must match the network's, got {first_few(shapes)}; build the network "
                              f"with the channels, classes and image size of the file.")
    damaged = [name for name, value in entries.items() if not torch.isfinite(value).all() or name == "std" and (value <= 0).any()]
    if damaged:
        raise CheckpointError(f"A state dict must hold finite numbers (and a positive std), got others in "
                              f"{first_few(damaged)}; use a checkpoint from before the training diverged.")
    with torch.no_grad():
        for name, value in entries.items():
            expected[name].copy_(value)


def _names_sentence(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    kinds = (("missing", missing), ("unexpected", unexpected))
    got = [f"{len(names)} {what} ({first_few(names)})" for what, names in kinds if names]
    advice = "build the network with the genotype, layers and auxiliary head of the file"
    if any(re.search(r"_ops\.\d+\._ops\.", name) for name in unexpected):
        advice = "this is the file of a supernet, load it into the supernet"
    elif not missing and all(name.startswith("auxiliary_head.") for name in unexpected):
        advice = "build the network with an auxiliary head"
    return f"A state dict must have exactly the network's entries, got {' and '.join(got)}; {advice}."


def per_channel(name: str, values: Sequence[float] | None, default: float, channels: int) -> Tensor:
    """Return the mean or std of each image channel as a float32 tensor [channels].

    Args:
        name: "mean" or "std", for messages and for the check that a std is positive.
        values: one number per channel; None to use `default` for every channel.
        default: the number to use if `values` is None.
        channels: number of image channels.

    Raises:
        ConfigError: `values` is not one finite number per channel, or a std is not above 0.
    """
    if values is None:
        return torch.full((channels,), default)
    tensor = torch.tensor([float(v) for v in values])
    if tensor.shape != (channels,) or not torch.isfinite(tensor).all() or (name == "std" and not (tensor > 0).all()):
        rule = "finite numbers above 0" if name == "std" else "finite numbers"
        raise ConfigError(f"{name} must be {channels} {rule}, one per image channel, got {list(values)}; "
                          f"leave it out for images that stay in 0..1.")
    return tensor
