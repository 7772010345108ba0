"""The supernet: all primitives on all edges, weighted by softmaxed alphas, as a function of flat vectors.

A supernet stores no weights, so an unrolled step or a finite difference can evaluate it with other weights without copying a
model. Each cell is computed by the back end (implementation, see `engine.space.state`) that is fastest for the cell. The search
space is taken from DARTS (Liu, Simonyan and Yang 2018). `engine.architecture.placement` sets the order and widths of the cells.
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
from engine.space.compiled import whole
from engine.space.darts_names import ALPHAS, BETAS
from engine.space.layout import Layout, buffer_layout, cell_shapes, edges_from, weight_layout
from engine.space.network import per_channel
from engine.space.normalisation import Normalisation
from engine.space.partial import edge_softmax
from engine.space.state import BACKENDS, Backend, choose

Device = torch.device | str


class Supernet:
    """A supernet that takes its weights as an argument.

    Args:
        kinds: cell kinds in the order of the flat alpha vector.
        channels: C, the width of the first cells; must be even.
        layers: number of cells, at least 3.
        classes: number of logits.
        image_shape: (channels, height, width). Height and width must be multiples of 4, for the two reductions.
        placement: name of the rule that gives the cell kind at each position; empty for the rule published for these kinds.
        width_ratio: widths of the network's three thirds, such as "1:2:4"; empty for the published ratio.
        primitives: names of the columns of the alphas: the seven of `genotype.PRIMITIVES` in any order, with or without "none".
        backend: name of the back end (implementation) for all cells; None to choose the fastest back end for each cell.
        mean: one number per image channel. The network subtracts it from pixels in 0..1. None for 0.
        std: one number per image channel. The network divides by it after the subtraction. None for 1.
        partial: K. The operations act on 1 / K of the channels, and the other channels bypass the operations
            (`engine.space.partial`). The number of channels must be a multiple of 2 K.
        edge_weights: True to weight the edges as well as the operations. Each edge has one trainable number, its beta. The
            weights of the edges into a node are the softmax of the betas of these edges.

    Attributes:
        layout: packing of the flat weight vector [n].
        buffers: packing of the flat vector [m] of BatchNorm's running statistics.
        alpha_shape: {cell kind: shape of its alphas, which is (14, number of primitives)}.
        alpha_size: length of the flat alpha vector: the alphas of all kinds and then, with edge weights, 14 betas per kind.
        classes, image_shape, kinds, primitives, mean, std: the constructor's arguments of the same names.

    Raises:
        ConfigError: sizes, kinds, placement or primitives are invalid, or mean or std has the wrong length.

    Example:
        supernet = Supernet(channels=8, layers=5, classes=10, image_shape=(1, 8, 8))
        generator = torch.Generator().manual_seed(0)
        weights = supernet.initial_weights(generator)
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
        self._plan = whole.Plan(self.cells, self.layout, self._parts, self.kinds)
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
        """Return the name of the fastest back end (implementation) for each cell.

        Args:
            device_type: "cpu", "cuda" or another type of torch device.
            compiled: False to consider only back ends that are written in PyTorch.
        """
        return [choose(cell, device_type, compiled) for cell in self.cells]

    def use_backends(self, names: Sequence[str]) -> None:
        """Use the named back ends (implementations) from now on, one name per cell.

        Different back ends agree only up to rounding. If not all names are "compiled", plain back ends replace the compiled one.

        Raises:
            ConfigError: a back end is unknown, or the number of names differs from the number of cells.
        """
        if len(names) != len(self.cells):
            raise ConfigError(f"There must be one back end for each of the {len(self.cells)} cells, got {len(names)}; take those "
                              "of `backends`.")
        self._backends = [BACKENDS[name] for name in names]

    def initial_weights(self, generator: torch.Generator, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Tensor:
        """Return flat weights [n], drawn from PyTorch's default initialisation.

        Weights are uniform within 1 / sqrt(fan-in). BatchNorm's scale is 1 and its shift 0. The generator must be on the CPU, so
        that a seed gives the same weights on every device.
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
        """Return flat alphas [alpha_size], drawn from a normal distribution with standard deviation 1e-3.

        With edge weights, the vector includes the betas (one trainable number per edge). The released code of DARTS, PC-DARTS and
        ARNAS uses the same distribution. The generator must be on the CPU.
        """
        return (1e-3 * torch.randn(self.alpha_size, generator=generator, dtype=torch.float64)).to(dtype=dtype, device=device)

    def initial_buffers(self, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Tensor:
        """Return the initial flat running statistics [m]: means 0 and variances 1."""
        flat = torch.zeros(self.buffers.size, dtype=dtype)
        for name, view in self.buffers.views(flat).items():
            if name.endswith(".variance"):
                view.fill_(1.0)
        return flat.to(device)

    def alpha_views(self, alphas: Tensor) -> dict[str, Tensor]:
        """Return {cell kind: its alphas [14, primitives]}, as views of the flat alphas.

        Raises:
            CheckpointError: `alphas` has the wrong length.
        """
        return dict(zip(self.kinds, self._split(alphas)[0].unbind(), strict=True))

    def beta_views(self, alphas: Tensor) -> dict[str, Tensor]:
        """Return {cell kind: its betas [14] in the order of `EDGES`}, as views of the flat alphas; {} without edge weights.

        Raises:
            CheckpointError: `alphas` has the wrong length.
        """
        return dict(zip(self.kinds, self._split(alphas)[1].unbind(), strict=True)) if self.edge_weights else {}

    def _split(self, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Split the flat alphas into the alphas proper and the betas, as views.

        Returns:
            alphas: [kinds, 14, primitives].
            betas: [kinds, 14]; empty without edge weights.
        """
        if alphas.shape != (self.alpha_size,):
            raise CheckpointError(f"The flat alphas must have {self.alpha_size} entries ({', '.join(self.kinds)}), got shape "
                                  f"{tuple(alphas.shape)}; do they belong to other cell kinds?")
        operations, betas = alphas.split(self._alpha_parts)
        return operations.view(len(self.kinds), len(EDGES), len(self.primitives)), betas.view(-1, len(EDGES))

    def genotype(self, alphas: Tensor) -> Genotype:
        """Derive the discrete architecture from flat alphas (DARTS, section 2.4).

        With edge weights, the strength of an operation is its softmaxed alpha times the weight of its edge, as in PC-DARTS.
        """
        weights = dict(zip(self.kinds, self._operation_weights(alphas.detach()).tolist(), strict=True))
        return derive_genotype(weights, self.primitives)

    def _operation_weights(self, alphas: Tensor) -> Tensor:
        """Return the weights of the operations, [kinds, 14, primitives].

        Without edge weights, these are the softmaxed alphas. With edge weights, each softmaxed alpha is multiplied by the weight
        of the operation's edge (the betas, softmaxed over the edges into each node).
        """
        operations, betas = self._split(alphas)
        weights = F.softmax(operations, dim=-1)
        return weights * edge_softmax(betas).unsqueeze(-1) if self.edge_weights else weights

    def load_darts_state_dict(self, state: Any, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read flat weights, buffers and alphas from a state dict of the public DARTS family.

        Args:
            state: mapping from names to tensors, or a checkpoint that holds such a mapping under "state_dict". Alphas may be
                missing. `module.` prefixes, counters and a normalisation with mean 0 and std 1 are ignored.
            dtype: dtype of the result; None for the dtype of "stem.0.weight".

        Returns:
            weights: flat weights [n], on the CPU.
            buffers: flat running statistics [m], on the CPU.
            alphas: flat alphas [alpha_size], on the CPU; None if the state dict has none.

        Raises:
            CheckpointError: tensors are missing or unexpected, have wrong shapes, or differ although they are copies of a shared
                buffer.
        """
        tensors = darts_names.read_state(state)
        places = [*darts_names.weight_places(self.cells, self.primitives)]
        buffer_places = [*darts_names.buffer_places(self.cells, self.primitives)]
        names = {place.name for place in (*places, *buffer_places)}
        alpha_shapes: dict[str, tuple[int, ...]] = {ALPHAS + kind: shape for kind, shape in self.alpha_shape.items()}
        if self.edge_weights:
            alpha_shapes |= {BETAS + kind: (len(EDGES),) for kind in self.kinds}
        alpha_names = list(alpha_shapes)
        has_alphas = any(name in tensors for name in alpha_names)
        darts_names.check_names(tensors, names | set(alpha_names if has_alphas else ()))
        dtype = dtype or tensors["stem.0.weight"].dtype
        weights = darts_names.take(self.layout, tensors, iter(places), dtype)
        buffers = darts_names.take(self.buffers, tensors, iter(buffer_places), dtype)
        alphas = None
        if has_alphas:
            layout = Layout([*alpha_shapes.items()])
            alphas = darts_names.take(layout, tensors, (darts_names.Place(name, name, ()) for name in alpha_names), dtype)
        return weights, buffers, alphas

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, *, buffers: Tensor | None = None,
               update_buffers: bool = False, running_statistics: bool = False, twice: bool = False) -> Tensor:
        """Compute the logits [B, classes] of images. Only the gradients that are needed are computed.

        Args:
            x: [B, C, H, W], pixels in 0..1, with the device and dtype of the weights.
            weights: flat weights [n].
            alphas: flat alphas [alpha_size].
            buffers: flat running statistics [m]; required if `update_buffers` or `running_statistics` is True, and otherwise
                ignored.
            update_buffers: True to move `buffers` in place towards this batch's statistics (momentum 0.1, unbiased variance).
            running_statistics: True to normalise with `buffers` instead of the batch's statistics.
            twice: True if a gradient of these logits will be differentiated again. Back ends (implementations of cells) that do
                not support this are replaced.

        Raises:
            ConfigError: the images have another shape, `update_buffers` or `running_statistics` is set without buffers, both are
                set, or the batch has only one value per channel to normalise with.
        """
        normalisation = self._normalisation(x, buffers, update_buffers, running_statistics)
        return self._logits(x, weights, self._rows(alphas), normalisation, twice)

    def weighted_logits(self, x: Tensor, weights: Tensor, operations: Tensor) -> Tensor:
        """Compute the logits [B, classes] of images with given operation weights instead of softmaxed alphas.

        BatchNorm normalises with the statistics of this batch. In a supernet with partial channels, the channels that bypass the
        operations of an edge have the sum of the edge's operation weights as their weight.

        Args:
            x: [B, C, H, W], pixels in 0..1, with the device and dtype of the weights.
            weights: flat weights [n].
            operations: weights of the operations, [kinds, 14, primitives], for example the result of `engine.space.one_hot`.

        Raises:
            ConfigError: the images have another shape, or the batch has only one value per channel to normalise with.
        """
        rows = self._by_state(operations, operations.sum(-1) if self.partial > 1 else None)
        return self._logits(x, weights, rows, self._normalisation(x, None, update=False, running=False), twice=False)

    def _logits(self, x: Tensor, weights: Tensor, rows: dict[str, Tensor], normalisation: Normalisation, twice: bool) -> Tensor:
        """Compute the logits [B, classes] of images.

        Args:
            x: [B, C, H, W], pixels in 0..1.
            weights: flat weights [n].
            rows: {cell kind: its operation weights}, in the form that `Backend.cell` expects.
            normalisation: statistics that the pass uses and updates.
            twice: True if the gradients of the pass will be differentiated again.
        """
        backends = [self._backend(i, x, normalisation, twice) for i in range(len(self.cells))]
        if all(isinstance(backend, whole.Compiled) for backend in backends):
            buffers = list(normalisation.parts.values()) if normalisation.parts else None
            return whole.logits(self._plan, self._pixels(x), weights, [rows[kind] for kind in self.kinds], buffers)
        stem, *cell_weights, classifier = self.layout.split(weights, self._parts)
        plain = [self._plain_backend(i, x) if isinstance(backend, whole.Compiled) else backend
                 for i, backend in enumerate(backends)]
        features = plain[0].stem(self._parts[0], self._pixels(x), stem, normalisation)
        before_last = last = F.relu(features)
        for i, (cell, backend) in enumerate(zip(self.cells, plain, strict=True)):
            if i > 0:
                before_last, last = last, F.relu(features)
            features = backend.cell(cell, self._parts[1 + i], before_last, last, cell_weights[i], rows[cell.kind], normalisation)
        views = self._parts[-1].views(classifier)
        return F.linear(features.mean(dim=(2, 3)), views["classifier.weight"], views["classifier.bias"])

    def _backend(self, i: int, x: Tensor, normalisation: Normalisation, twice: bool) -> Backend | whole.Compiled:
        """Return the back end (implementation) of cell i, or a plain back end (in PyTorch) if that one does not support the pass.

        Args:
            i: index of the cell.
            x: tensor with the device and dtype of the pass.
            normalisation: statistics that the pass uses and updates.
            twice: True if the gradients of the pass will be differentiated again.
        """
        backend = self._backends[i] if self._backends else BACKENDS[choose(self.cells[i], x.device.type)]
        if backend.serves(self.cells[i], x, normalisation) and (backend.twice or not twice):
            return backend
        return self._plain_backend(i, x)

    def _plain_backend(self, i: int, x: Tensor) -> Backend:
        """Return the fastest plain back end of cell i for tensors like x."""
        backend = BACKENDS[choose(self.cells[i], x.device.type, compiled=False)]
        assert not isinstance(backend, whole.Compiled)
        return backend

    def _normalisation(self, x: Tensor, buffers: Tensor | None, update: bool, running: bool) -> Normalisation:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise ConfigError(f"Images must have the shape [B, {', '.join(map(str, self.image_shape))}], got {list(x.shape)}; "
                              f"build the supernet for such images.")
        height, width = self.image_shape[1] // 4, self.image_shape[2] // 4
        if not running and x.shape[0] * height * width < 2:
            raise ConfigError(f"Batch statistics must come from at least 2 values per channel, got one image and 1x1 maps; use "
                              f"batches of 2 or more images of {self.image_shape[1]}x{self.image_shape[2]}.")
        if update and running:
            raise ConfigError("A pass must either update the running statistics or use them, got both options; drop one.")
        if not update and not running:
            return Normalisation(None, running=False)
        if buffers is None:
            raise ConfigError("update_buffers and running_statistics require the flat buffer vector, got none; pass "
                              "buffers=supernet.initial_buffers() or a trained one.")
        parts = self.buffers.split(buffers, self._buffer_parts)
        prefixes = ("stem.", *(cell.prefix for cell in self.cells))
        return Normalisation(self.buffers.views(buffers), running, dict(zip(prefixes, parts, strict=True)))

    def _pixels(self, x: Tensor) -> Tensor:
        """Normalise images by the mean and standard deviation of their channels.

        This happens inside the network, so that attack radii are differences of pixel values in 0..1.
        """
        if self._channels is None:
            return x
        mean, std = self._on(x)
        return (x - mean) / std

    def image_unit(self, x: Tensor) -> Tensor:
        """Return the standard deviation by which normalisation divides each image channel, [C, 1, 1].

        A difference of this size in pixel values becomes a difference of 1. Without normalisation, the result is a scalar 1.
        """
        return x.new_ones(()) if self._channels is None else self._on(x)[1]

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of the image channels, on x's device and in its dtype.

        Both tensors are cached.

        Returns:
            mean: [C, 1, 1].
            std: [C, 1, 1].
        """
        key = x.device, x.dtype
        if key not in self._placed:
            assert self._channels is not None
            with torch.inference_mode(False):
                mean, std = (value.to(x.device, x.dtype)[:, None, None] for value in self._channels)
            self._placed[key] = mean, std
        return self._placed[key]

    def _rows(self, alphas: Tensor) -> dict[str, Tensor]:
        """Return {cell kind: its operation weights} for flat alphas, in the form that `Backend.cell` expects."""
        operations = self._operation_weights(alphas)
        if self.partial == 1:
            return self._by_state(operations, None)
        betas = self._split(alphas)[1]
        return self._by_state(operations, edge_softmax(betas) if self.edge_weights else torch.ones_like(operations[..., 0]))

    def _by_state(self, operations: Tensor, bypass: Tensor | None) -> dict[str, Tensor]:
        """Return {cell kind: its operation weights [14, 7]}, in the form that `Backend.cell` expects.

        There is one row per edge, sorted by the state that the edge leaves. There is one column per primitive, in the order of
        `PRIMITIVES`. If some channels bypass the operations, the shape is [14, 8] and the last column holds the weight of these
        channels.

        Args:
            operations: weights of the operations, [kinds, 14, primitives].
            bypass: weights of the channels that bypass the operations, [kinds, 14]; None if there are no such channels.
        """
        by_state, columns = self._order(operations.device)
        rows = operations.index_select(2, columns)
        if bypass is not None:
            rows = torch.cat([rows, bypass.unsqueeze(-1)], dim=-1)
        return dict(zip(self.kinds, rows.index_select(1, by_state).unbind(), strict=True))

    def _order(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the indices by which `_rows` sorts edges and primitives. The indices are cached per device.

        Returns:
            edges: indices of the 14 edges, ordered by the state that each edge leaves.
            columns: for each entry of `PRIMITIVES`, its index in the supernet's primitives.
        """
        if device not in self._orders:
            edges = [e for state in range(1 + NODES) for e in edges_from(state)]
            columns = [self.primitives.index(name) for name in PRIMITIVES]
            with torch.inference_mode(False):
                self._orders[device] = (torch.tensor(edges, device=device), torch.tensor(columns, device=device))
        return self._orders[device]


def _check(channels: int, classes: int, image_shape: Sequence[int], primitives: Sequence[str], partial: int) -> None:
    check_size(channels, classes, image_shape)
    if channels % 2:
        raise ConfigError(f"channels must be even (a reduction splits them into halves), got {channels}; take {channels + 1}.")
    if partial < 1:
        raise ConfigError(f"partial must be at least 1 (operations on all channels), got {partial}; take 1 or more.")
    if channels % (2 * partial):
        raise ConfigError(f"channels must be a multiple of {2 * partial} (operations act on 1 / {partial} of them, which a "
                          f"reduction splits into halves), got {channels}; take {-(-channels // (2 * partial)) * 2 * partial}.")
    if image_shape[1] % 4 or image_shape[2] % 4:
        raise ConfigError(f"Height and width of the images must be multiples of 4 (they are halved twice), got "
                          f"{image_shape[1]}x{image_shape[2]}; pad or crop the images.")
    if sorted(set(primitives) - {NONE}) != sorted(PRIMITIVES) or len(set(primitives)) != len(primitives):
        raise ConfigError(f"The supernet's primitives must be {', '.join(PRIMITIVES)}, each once, with or without {NONE}, got "
                          f"{', '.join(primitives) or 'nothing'}; use that list.")
