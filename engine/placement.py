"""Where in a network the cells of each kind stand and how wide they are. Shared by cost, supernet and derived network.

Two rules: ARNAS (Ou, Feng and Sun 2024; released code) with accurate cells before and robust cells behind the second
reduction, widths 1 : 2 : 2; and DARTS (Liu, Simonyan and Yang 2018) with normal cells, widths 1 : 2 : 4. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.genotype import KIND_SETS, KINDS_OF_ARNAS

STEM_MULTIPLIER = 3  # the stem has 3 C channels (DARTS)
MINIMUM_LAYERS = 3  # below, the two reductions would fall on one cell
SMALLEST_AUXILIARY_IMAGE = 17  # pixels; below, the maps behind two reductions are smaller than the head's 5x5 window


@dataclass(frozen=True)
class CellPosition:
    """One cell of the network.

    Attributes:
        kind: which cell of the genotype stands here.
        reduction: whether it halves height and width.
        channels_multiplier: width of its nodes in units of the network's C.
        after_reduction: whether the cell before it is a reduction, so that its first input is one resolution larger.
    """

    kind: str
    reduction: bool
    channels_multiplier: int
    after_reduction: bool


def reductions(layers: int) -> tuple[int, int]:
    """Indices of the two reduction cells; the auxiliary head stands behind the second."""
    return layers // 3, 2 * layers // 3


def placement(kinds: Sequence[str], layers: int) -> list[CellPosition]:
    """The cells of a network from input to output.

    Args:
        kinds: cell kinds of the genotype in any order: accurate, reduce, robust (ARNAS) or normal, reduce (DARTS).
        layers: number of cells, at least 3.

    Raises:
        ConfigError: other kinds, or too few layers.
    """
    if tuple(sorted(kinds)) not in KIND_SETS:
        expected = " or ".join(", ".join(names) for names in KIND_SETS)
        raise ConfigError(f"Cell kinds must be {expected}, got {', '.join(kinds) or 'none'}; use one of the two families.")
    if layers < MINIMUM_LAYERS:
        raise ConfigError(f"layers must be at least {MINIMUM_LAYERS} (two reductions and what follows), got {layers}; "
                          f"take {MINIMUM_LAYERS} or more.")
    is_arnas = tuple(sorted(kinds)) == KINDS_OF_ARNAS
    first, second = reductions(layers)
    positions = []
    for i in range(layers):
        reduction = i in (first, second)
        if reduction:
            kind = "reduce"
        elif is_arnas:
            kind = "accurate" if i < second else "robust"
        else:
            kind = "normal"
        width = 1 if i < first else 2 if i < second or is_arnas else 4
        positions.append(CellPosition(kind, reduction, width, i - 1 in (first, second)))
    return positions


def halved(size: int) -> int:
    """Height or width behind a reduction: half, rounded up."""
    return (size + 1) // 2


def check_size(channels: int, classes: int, image_shape: Sequence[int]) -> None:
    """Refuses sizes no network can have.

    Args:
        channels: C of the first cells.
        classes: number of classes.
        image_shape: (channels, height, width) of an image.

    Raises:
        ConfigError: a number that is not a positive whole number, or a shape that has not three of them.
    """
    numbers = {"channels": channels, "classes": classes}
    if len(image_shape) != 3:
        raise ConfigError(f"image_shape must be (channels, height, width), got {tuple(image_shape)}; for example (3, 32, 32).")
    numbers |= dict(zip(("image channels", "image height", "image width"), image_shape, strict=True))
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {number!r}; give such a number.")


def auxiliary_map(image_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of what the auxiliary head's last convolution sees, which is also the size of its kernel.

    The head pools the maps behind the second reduction with 5x5 windows of stride 3: 8x8 maps (32x32 images) give 2x2,
    16x16 maps (64x64 images) 4x4, as in the released code. Other sizes continue that rule.

    Raises:
        ConfigError: maps smaller than the pooling window.
    """
    height, width = (halved(halved(size)) for size in image_shape[1:])
    if min(image_shape[1:]) < SMALLEST_AUXILIARY_IMAGE:
        raise ConfigError(f"The auxiliary head must have maps of at least 5x5 behind the second reduction (images of "
                          f"{SMALLEST_AUXILIARY_IMAGE} pixels or more), got {height}x{width}; switch it off by setting its "
                          f"weight to 0.")
    return (height - 5) // 3 + 1, (width - 5) // 3 + 1
