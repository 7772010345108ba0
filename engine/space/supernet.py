"""The supernet: all primitives on all edges, weighted by softmaxed alphas, as a function of flat vectors.

It owns no weights, so an unrolled step or a finite difference evaluates it at another point of the same vector and nothing
is copied. Cells are computed state by state (`engine.space.state`), each by the back end that is fastest for its size.
Search space: DARTS (Liu, Simonyan and Yang 2018); cell kinds, their places and widths: `engine.architecture.placement`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import EDGES, NODES, NONE, PRIMITIVES, Genotype, derive_genotype
from engine.architecture.placement import check_size
from engine.errors import CheckpointError, ConfigError
from engine.space import darts_names
from engine.space.darts_names import ALPHAS, BETAS
from engine.space.layout import Layout, buffer_layout, cell_shapes, edges_from, weight_layout
from engine.space.network import per_channel
from engine.space.normalisation import Normalisation
from engine.space.partial import edge_softmax
from engine.space.state import BACKENDS, Backend, choose

Device = torch.device | str


class Supernet:
    """A supernet without weights of its own.

    Args:
        kinds: cell kinds in the order of the flat alpha vector.
        channels: C of the first cells; even.
        layers: number of cells, at least 3.
        classes: number of logits.
        image_shape: (channels, height, width); height and width multiples of 4, for the two reductions.
        placement, width_ratio: as `engine.architecture.placement.positions`; empty for the published ones of the kinds.
        primitives: columns of the alphas: the seven of `genotype.PRIMITIVES` in any order, with or without "none".
        backend: name of a state back end for all cells; None: the fastest for each cell.
        mean: mean per image channel in pixels 0..1, subtracted first; None for images that stay as they are.
        std: standard deviation per image channel, divided by; None for 1.
        partial: K: the operations act on 1 / K of the channels, the others bypass them (`engine.space.partial`); the
            channels are a multiple of 2 K.
        edge_weights: whether the edges into a node have weights of their own, the softmax of their betas.

    Attributes:
        layout, buffers: packing of the flat weight vector [n] and of the flat BatchNorm buffers [m].
        alpha_shape: kind -> (14, number of primitives).
        alpha_size: length of the flat alpha vector: the alphas of all kinds, then with edge weights 14 betas of each kind.
        classes, image_shape, kinds, primitives, mean, std: as given.

    Raises:
        ConfigError: sizes, kinds, places or primitives no supernet can have, or a mean or std that does not fit.

    Example:
        supernet = Supernet(channels=8, layers=5, classes=10, image_shape=(1, 8, 8))
        weights = supernet.initial_weights(torch.Generator().manual_seed(0))
        logits = supernet.logits(x, weights, supernet.initial_alphas(generator))
    """

    def __init__(self, *, kinds: Sequence[str] = ("robust", "reduce", "accurate"), channels: int, layers: int, classes: int,
                 image_shape: Sequence[int], primitives: Sequence[str] = PRIMITIVES, backend: str | None = None,
                 placement: str = "", width_ratio: str = "", mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, partial: int = 1, edge_weights: bool = False) -> None:
        _check(channels, classes, image_shape, primitives, partial)
        self.kinds = tuple(kinds)
        self.primitives = tuple(primitives)
        self.classes = classes
        self.image_shape = tuple(image_shape)
        self.partial = partial
        self.edge_weights = edge_weights
        self.cells = cell_shapes(kinds, channels, layers, image_shape, placement, width_ratio, partial)
        self.layout: Layout = weight_layout(self.cells, classes, image_shape[0])
        self.buffers: Layout = buffer_layout(self.cells)
        prefixes = [cell.prefix for cell in self.cells]
        self._parts = [self.layout.part(prefix) for prefix in ("stem.", *prefixes, "classifier.")]
        self._buffer_parts = [self.buffers.part(prefix) for prefix in ("stem.", *prefixes)]
        self.alpha_shape = {kind: (len(EDGES), len(self.primitives)) for kind in self.kinds}
        beta_size = len(self.kinds) * len(EDGES) if edge_weights else 0
        self._alpha_parts = (sum(math.prod(shape) for shape in self.alpha_shape.values()), beta_size)
        self.alpha_size = sum(self._alpha_parts)
        self._backends = None if backend is None else [BACKENDS[backend]] * layers
        self._orders: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.mean, self.std = mean, std
        self._channels = None if mean is None and std is None else (
            per_channel("mean", mean, 0.0, image_shape[0]), per_channel("std", std, 1.0, image_shape[0]))
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def backends(self, device_type: str, compiled: bool = True) -> list[str]:
        """The back end of each cell that is fastest on "cpu", "cuda", ...; compiled False: among the plain ones."""
        return [choose(cell, device_type, compiled) for cell in self.cells]

    def use_backends(self, names: Sequence[str]) -> None:
        """Computes with these back ends, one name per cell, from now on: back ends agree up to rounding only.

        Raises:
            ConfigError: an unknown back end, or not one per cell.
        """
        if len(names) != len(self.cells):
            raise ConfigError(f"There must be one back end per cell, {len(self.cells)}, got {len(names)}; take those of "
                              "`backends`.")
        self._backends = [BACKENDS[name] for name in names]

    def initial_weights(self, generator: torch.Generator, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Tensor:
        """Flat weights [n] drawn as PyTorch initialises such modules: uniform within 1 / sqrt(fan-in), BatchNorm scale 1.

        The generator is a CPU generator, so that one seed gives the same weights on every device.
        """
        flat = torch.empty(self.layout.size, dtype=dtype)
        for name, view in self.layout.views(flat).items():
            if name in ("stem.scale", "stem.shift"):
                view.fill_(1.0 if name == "stem.scale" else 0.0)
            else:
                bound = 1 / math.sqrt(self._fan_in(name, view.shape))
                view.copy_(torch.empty(view.shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator))
        return flat.to(device)

    def _fan_in(self, name: str, shape: Sequence[int]) -> int:
        if "depthwise" in name:
            return shape[-1] ** 2
        if name == "classifier.bias":
            return NODES * self.cells[-1].channels
        return math.prod(shape[1:]) if name == "stem.convolution" else shape[-1]

    def initial_alphas(self, generator: torch.Generator, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Tensor:
        """Flat alphas [alpha_size], betas too: 1e-3 N(0, 1) (DARTS, PC-DARTS and ARNAS, released code). CPU generator."""
        return (1e-3 * torch.randn(self.alpha_size, generator=generator, dtype=torch.float64)).to(dtype=dtype, device=device)

    def initial_buffers(self, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Tensor:
        """Flat running statistics [m]: means 0, variances 1."""
        flat = torch.zeros(self.buffers.size, dtype=dtype)
        for name, view in self.buffers.views(flat).items():
            if name.endswith(".variance"):
                view.fill_(1.0)
        return flat.to(device)

    def alpha_views(self, alphas: Tensor) -> dict[str, Tensor]:
        """Kind -> view [14, primitives] of flat alphas.

        Raises:
            CheckpointError: a vector of another length.
        """
        return dict(zip(self.kinds, self._split(alphas)[0].unbind(), strict=True))

    def beta_views(self, alphas: Tensor) -> dict[str, Tensor]:
        """Kind -> view [14] of the betas in flat alphas, edges in the order of `EDGES`; empty without edge weights.

        Raises:
            CheckpointError: a vector of another length.
        """
        return dict(zip(self.kinds, self._split(alphas)[1].unbind(), strict=True)) if self.edge_weights else {}

    def _split(self, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Views [kinds, 14, primitives] and [kinds, 14] of flat alphas; the second is empty without edge weights."""
        if alphas.shape != (self.alpha_size,):
            raise CheckpointError(f"The flat alphas must have {self.alpha_size} entries ({', '.join(self.kinds)}), got shape "
                                  f"{tuple(alphas.shape)}; were they made for other cell kinds?")
        operations, betas = alphas.split(self._alpha_parts)
        return operations.view(len(self.kinds), len(EDGES), len(self.primitives)), betas.view(-1, len(EDGES))

    def genotype(self, alphas: Tensor) -> Genotype:
        """The discrete architecture of flat alphas (DARTS, section 2.4; with edge weights PC-DARTS)."""
        weights = dict(zip(self.kinds, self._operation_weights(alphas.detach()).tolist(), strict=True))
        return derive_genotype(weights, self.primitives)

    def _operation_weights(self, alphas: Tensor) -> Tensor:
        """[kinds, 14, primitives] of flat alphas: softmax of the alphas, times that of the betas over a node's edges."""
        operations, betas = self._split(alphas)
        weights = F.softmax(operations, dim=-1)
        return weights * edge_softmax(betas).unsqueeze(-1) if self.edge_weights else weights

    def to_darts_state_dict(self, weights: Tensor, buffers: Tensor | None = None,
                            alphas: Tensor | None = None) -> dict[str, Tensor]:
        """Copies of all tensors under the names of the public DARTS family; alphas as `alphas_<kind>`, `betas_<kind>`."""
        state = darts_names.export(self.layout, weights, darts_names.weight_places(self.cells, self.primitives))
        if buffers is not None:
            state |= darts_names.export(self.buffers, buffers, darts_names.buffer_places(self.cells, self.primitives))
        if alphas is not None:
            state |= {ALPHAS + kind: view.detach().clone() for kind, view in self.alpha_views(alphas).items()}
            state |= {BETAS + kind: view.detach().clone() for kind, view in self.beta_views(alphas).items()}
        return state

    def load_darts_state_dict(self, state: Any, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flat (weights, buffers, alphas or None) on the CPU from a state dict of the public DARTS family.

        Args:
            state: names to tensors, or a checkpoint with them under "state_dict". `module.` prefixes, counters and an
                identity normalisation are tolerated, as is the absence of alphas.
            dtype: of the result; None: that of "stem.0.weight".

        Raises:
            CheckpointError: missing, unexpected or ill-shaped tensors, or copies of a shared buffer that differ.
        """
        found = darts_names.read_state(state)
        places = [*darts_names.weight_places(self.cells, self.primitives)]
        buffer_places = [*darts_names.buffer_places(self.cells, self.primitives)]
        names = {place.name for place in (*places, *buffer_places)}
        alpha_shapes: dict[str, tuple[int, ...]] = {ALPHAS + kind: shape for kind, shape in self.alpha_shape.items()}
        if self.edge_weights:
            alpha_shapes |= {BETAS + kind: (len(EDGES),) for kind in self.kinds}
        alpha_names = list(alpha_shapes)
        has_alphas = any(name in found for name in alpha_names)
        darts_names.check_names(found, names | set(alpha_names if has_alphas else ()))
        dtype = dtype or found["stem.0.weight"].dtype
        weights = darts_names.take(self.layout, found, iter(places), dtype)
        buffers = darts_names.take(self.buffers, found, iter(buffer_places), dtype)
        alphas = None
        if has_alphas:
            layout = Layout([*alpha_shapes.items()])
            alphas = darts_names.take(layout, found, (darts_names.Place(name, name, ()) for name in alpha_names), dtype)
        return weights, buffers, alphas

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, buffers: Tensor | None = None,
               update_buffers: bool = False, running_statistics: bool = False, twice: bool = False) -> Tensor:
        """Logits [B, classes].

        Args:
            x: [B, C, H, W], pixels in 0..1, on the device and of the dtype of the weights.
            weights: flat [n]; alphas: flat. Only gradients that are asked for are computed.
            buffers: flat BatchNorm buffers [m]; needed by the two switches, else ignored.
            update_buffers: move `buffers`, in place, towards this batch's statistics (momentum 0.1, unbiased variance).
            running_statistics: normalise with `buffers` instead of the batch's statistics.
            twice: a gradient of these logits will be differentiated: a cell whose back end cannot is computed by one that can.

        Raises:
            ConfigError: images of another shape, a switch without buffers, or both switches.
        """
        normalisation = self._normalisation(x, buffers, update_buffers, running_statistics)
        stem, *of_cells, classifier = self.layout.split(weights, self._parts)
        rows = self._rows(alphas)
        before_last = last = self._stem(x, self._parts[0].views(stem), normalisation)
        features = last
        for i, cell in enumerate(self.cells):
            backend = self._backend(i, x, normalisation, twice)
            features = backend.cell(cell, self._parts[1 + i], before_last, last, of_cells[i], rows[cell.kind], normalisation)
            # Both inputs of a cell begin with ReLU: computed once, behind each cell, and read by the next two.
            before_last, last = last, F.relu(features)
        views = self._parts[-1].views(classifier)
        return F.linear(features.mean(dim=(2, 3)), views["classifier.weight"], views["classifier.bias"])

    def _backend(self, i: int, x: Tensor, normalisation: Normalisation, twice: bool) -> Backend:
        """The back end of cell i for such a pass."""
        backend = self._backends[i] if self._backends else BACKENDS[choose(self.cells[i], x.device.type)]
        if backend.serves(self.cells[i], x, normalisation) and (backend.twice or not twice):
            return backend
        return BACKENDS[choose(self.cells[i], x.device.type, compiled=False)]

    def _normalisation(self, x: Tensor, buffers: Tensor | None, update: bool, running: bool) -> Normalisation:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise ConfigError(f"Images must have the shape [B, {', '.join(map(str, self.image_shape))}], got {list(x.shape)}; "
                              f"build the supernet for such images.")
        height, width = self.image_shape[1] // 4, self.image_shape[2] // 4
        if not running and x.shape[0] * height * width < 2:
            raise ConfigError(f"Batch statistics must come from at least 2 values per channel, got one image and 1x1 maps; use "
                              f"batches of 2 or more images of {self.image_shape[1]}x{self.image_shape[2]}.")
        if update and running:
            raise ConfigError("A pass must either update the running statistics or use them, got both switches; drop one.")
        if not update and not running:
            return Normalisation(None, running=False)
        if buffers is None:
            raise ConfigError("update_buffers and running_statistics must come with the flat buffer vector, got none; pass "
                              "buffers=supernet.initial_buffers() or a trained one.")
        parts = self.buffers.split(buffers, self._buffer_parts)
        cells = {cell.prefix: part for cell, part in zip(self.cells, parts[1:], strict=True)}
        return Normalisation(self.buffers.views(buffers), running, cells)

    def _stem(self, x: Tensor, views: dict[str, Tensor], normalisation: Normalisation) -> Tensor:
        y = normalisation.maps(F.conv2d(self._pixels(x), views["stem.convolution"], padding=1), *normalisation.statistics("stem"),
                               views["stem.scale"], views["stem.shift"])
        return F.relu(y)

    def _pixels(self, x: Tensor) -> Tensor:
        """Images less their channels' mean, by their standard deviation: inside the network, so that epsilon stays in pixels."""
        if self._channels is None:
            return x
        mean, std = self._on(x)
        return (x - mean) / std

    def image_unit(self, x: Tensor) -> Tensor:
        """What the network counts as 1 in each channel of images like x, in pixels 0..1: [C, 1, 1], or 1 as a scalar."""
        return x.new_ones(()) if self._channels is None else self._on(x)[1]

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, 1, 1] of images like x; made once per device and dtype."""
        key = x.device, x.dtype
        if key not in self._placed:
            assert self._channels is not None
            with torch.inference_mode(False):
                mean, std = (value.to(x.device, x.dtype)[:, None, None] for value in self._channels)
            self._placed[key] = mean, std
        return self._placed[key]

    def _rows(self, alphas: Tensor) -> dict[str, Tensor]:
        """Kind -> weights of the operations [14, 7], edges by the state they leave, columns in the order of `PRIMITIVES`;
        with partial channels [14, 8], the last the weight of those that bypass the operations."""
        by_state, columns = self._order(alphas.device)
        rows = self._operation_weights(alphas).index_select(2, columns)
        if self.partial > 1:
            betas = self._split(alphas)[1]
            bypass = edge_softmax(betas) if self.edge_weights else torch.ones_like(rows[..., 0])
            rows = torch.cat([rows, bypass.unsqueeze(-1)], dim=-1)
        return dict(zip(self.kinds, rows.index_select(1, by_state).unbind(), strict=True))

    def _order(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Edges in the order of the states they leave, and the columns of `PRIMITIVES`; made once per device."""
        if device not in self._orders:
            edges = [e for state in range(1 + NODES) for e in edges_from(state)]
            columns = [self.primitives.index(name) for name in PRIMITIVES]
            with torch.inference_mode(False):
                self._orders[device] = (torch.tensor(edges, device=device), torch.tensor(columns, device=device))
        return self._orders[device]


def _check(channels: int, classes: int, image_shape: Sequence[int], primitives: Sequence[str], partial: int) -> None:
    check_size(channels, classes, image_shape)
    if channels % 2:
        raise ConfigError(f"channels must be even (a reduction splits them in two halves), got {channels}; take {channels + 1}.")
    if partial < 1:
        raise ConfigError(f"partial must be at least 1 (operations on all channels), got {partial}; take 1 or more.")
    if channels % (2 * partial):
        raise ConfigError(f"channels must be a multiple of {2 * partial} (operations act on 1 / {partial} of them, which a "
                          f"reduction splits in two halves), got {channels}; take {-(-channels // (2 * partial)) * 2 * partial}.")
    if image_shape[1] % 4 or image_shape[2] % 4:
        raise ConfigError(f"Height and width of the images must be multiples of 4 (they are halved twice), got "
                          f"{image_shape[1]}x{image_shape[2]}; pad or crop the images.")
    if sorted(set(primitives) - {NONE}) != sorted(PRIMITIVES) or len(set(primitives)) != len(primitives):
        raise ConfigError(f"The supernet's primitives must be {', '.join(PRIMITIVES)}, each once, with or without {NONE}, got "
                          f"{', '.join(primitives) or 'nothing'}; use that list.")
