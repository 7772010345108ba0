"""The derived network: what is built from a genotype, trained from scratch and attacked.

Cells and their names follow the public DARTS family (Liu, Simonyan and Yang 2018, arXiv 1806.09055), their places and
widths `architecture.placement`, so state dicts of that family load by `load_darts_state_dict`. The network takes pixels in 0..1;
mean and standard deviation are inside it, so that epsilon means the same for every network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
from engine.space.primitives import FactorizedReduce, ReLUConvBN, drop_path, operation

NORMALISATION = ("mean", "std")  # buffers of ours that files of the DARTS family lack
ALPHAS = r"(^|\.)_?(alphas?|arch_parameters)([._]|$)"  # names that a search leaves in its files


class Cell(nn.Module):
    """One derived cell: two inputs of any width in, `len(concat) * width` channels out."""

    def __init__(self, genotype: genotypes.Cell, position: CellPosition, before_last: int, last: int, width: int) -> None:
        """before_last, last: channels of the outputs of the two cells (or the stem) before this one."""
        super().__init__()
        self.preprocess0 = FactorizedReduce(before_last, width) if position.after_reduction else ReLUConvBN(before_last, width)
        self.preprocess1 = ReLUConvBN(last, width)
        self._ops = nn.ModuleList(
            operation(name, width, 2 if position.reduction and state < 2 else 1) for name, state in genotype.edges)
        self.inputs = tuple(state for _, state in genotype.edges)
        self.concat = genotype.concat

    def forward(self, before_last: Tensor, last: Tensor, drop_probability: float, generator: torch.Generator | None) -> Tensor:
        """Outputs [B, C_k, H, W] of the two cells before, to this cell's [B, concat * C, H', W']; paths drop in training only."""
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for first in range(0, len(self.inputs), 2):
            values = []
            for edge in (first, first + 1):
                value = self._ops[edge](states[self.inputs[edge]])
                # A plain skip connection is never dropped, or a node could lose the whole of its input (DARTS).
                if self.training and drop_probability > 0 and not isinstance(self._ops[edge], nn.Identity):
                    value = drop_path(value, drop_probability, generator)
                values.append(value)
            states.append(values[0] + values[1])
        return torch.cat([states[state] for state in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """Second classifier behind the second reduction; only its loss is used (DARTS, released code).

    Args:
        channels: channels of the maps it sees.
        classes: number of classes.
        kernel: (height, width) of the maps after pooling; 2x2 for 32x32 images, 4x4 for 64x64 images.
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
    """A network of stacked derived cells.

    Attributes:
        drop_path: probability 0 <= p < 1 of dropping an operation's output, per image; active in training mode only.
        drop_path_generator: where its randomness comes from (on the images' device); None for torch's global one.
        genotype, channels, layers, classes, image_shape: as given.
        channels_last: whether maps lie in memory with the channels last wherever there is a choice; else what is faster on a CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, genotype: Genotype, *, channels: int, layers: int, classes: int, image_shape: Sequence[int],
                 auxiliary: bool = False, placement: str = "", width_ratio: str = "", mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None) -> None:
        """Weights are torch's default initialisation, drawn from the global generator.

        Args:
            genotype: the architecture.
            channels: C of the first cells.
            layers: number of cells, at least 3.
            classes: number of classes.
            image_shape: (channels, height, width) of an image.
            auxiliary: build the auxiliary head.
            placement, width_ratio: as `placement.positions`; empty for the published ones of the genotype's cells.
            mean: mean per image channel in pixels 0..1, subtracted first; None for 0.
            std: standard deviation per image channel, divided by; None for 1.

        Raises:
            ConfigError: sizes no network can have, a placement of other cells, or a mean or std that does not fit.
        """
        super().__init__()
        check_size(channels, classes, image_shape, width_ratio)
        self.genotype, self.channels, self.layers, self.classes = genotype, channels, layers, classes
        self.image_shape = tuple(image_shape)
        self.channels_last = False
        self.drop_path = 0.0
        self.drop_path_generator: torch.Generator | None = None
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
        """Whether the network has an auxiliary head."""
        return hasattr(self, "auxiliary_head")

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W], pixels in 0..1 -> logits [B, classes]. The auxiliary head is not run."""
        logits: Tensor = self.classifier(self._maps(x)[0].mean(dim=(2, 3)))
        return logits

    def frozen(self) -> Callable[[Tensor], Tensor]:
        """The function `forward` computes in evaluation mode, with the present parameters and statistics as constants.

        Equal up to rounding and several times faster, forward and for the gradient of the images; for attacks. Later changes
        of the network do not reach it. x: [B, *image_shape] -> logits [B, classes].
        """
        _, height, width = self.image_shape
        return derived.frozen(self, (height, width))

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `forward`, with the auxiliary head's logits [B, classes] beside it; None when there is no head."""
        final, middle = self._maps(x)
        logits = self.classifier(final.mean(dim=(2, 3)))
        return logits, self.auxiliary_head(middle) if self.auxiliary else None

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last cell's output and that of the second reduction."""
        if self.training:
            layout = derived.layout_of(self, x, live=True)
            outputs = derived.Program(self, layout, (x.shape[2], x.shape[3]))(x, self.drop_path, self.drop_path_generator)
            return outputs[-1](), outputs[reductions(self.layers)[1]]()
        before_last = last = self.stem((x - self.mean[:, None, None]) / self.std[:, None, None])
        second_reduction = reductions(self.layers)[1]
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self.drop_path, self.drop_path_generator)
            if i == second_reduction:
                middle = last
        return last, middle


def load_darts_state_dict(network: Network, state: Any) -> None:
    """Loads a state dict in the naming of the public DARTS family into `network`, wholly or not at all.

    `module.` prefixes (of DataParallel) are stripped, alphas are ignored, and BatchNorm's `num_batches_tracked` may be
    absent (files of old torch). `mean` and `std` are taken where the file has them; else the network keeps its own.

    Args:
        network: built from the file's genotype, channels, layers, classes and auxiliary head.
        state: {name: tensor}, or a checkpoint that holds this under "state_dict".

    Raises:
        CheckpointError: something else than such a mapping; missing, unexpected or ill-shaped entries; entries that are
            not finite. The first few are named.
    """
    # Some files keep the normalisation as [1, C, 1, 1]; the numbers are the same.
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
        raise CheckpointError(f"The shapes of a state dict must be the network's, got {first_few(shapes)}; build the network "
                              f"with the channels, classes and image size of the file.")
    damaged = [name for name, value in entries.items() if not torch.isfinite(value).all() or name == "std" and (value <= 0).any()]
    if damaged:
        raise CheckpointError(f"A state dict must hold finite numbers (and std positive ones), got others in "
                              f"{first_few(damaged)}; take a checkpoint from before the training diverged.")
    with torch.no_grad():
        for name, value in entries.items():
            expected[name].copy_(value)


def _names_sentence(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    kinds = (("missing", missing), ("unexpected", unexpected))
    got = [f"{len(names)} {what} ({first_few(names)})" for what, names in kinds if names]
    advice = "build the network with the genotype, layers and auxiliary head of the file"
    if any(re.search(r"_ops\.\d+\._ops\.", name) for name in unexpected):
        advice = "this file is a supernet's, load it into the supernet"
    elif not missing and all(name.startswith("auxiliary_head.") for name in unexpected):
        advice = "build the network with an auxiliary head"
    return f"A state dict must have exactly the network's entries, got {' and '.join(got)}; {advice}."


def per_channel(name: str, values: Sequence[float] | None, default: float, channels: int) -> Tensor:
    """[channels] float32 of a mean or std per image channel, `default` everywhere where there is none.

    Raises:
        ConfigError: not one finite number per channel, or a std that is not above 0.
    """
    if values is None:
        return torch.full((channels,), default)
    tensor = torch.tensor([float(v) for v in values])
    if tensor.shape != (channels,) or not torch.isfinite(tensor).all() or (name == "std" and not (tensor > 0).all()):
        rule = "finite numbers above 0" if name == "std" else "finite numbers"
        raise ConfigError(f"{name} must be {channels} {rule}, one per image channel, got {list(values)}; "
                          f"leave it out for images that stay in 0..1.")
    return tensor
