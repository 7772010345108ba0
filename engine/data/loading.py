"""Loading of splits: images kept as bytes, on the device if they fit, and converted batch by batch; batches of indices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.catalogue import DATASETS
from engine.data.dataset import ChannelStatistics, Dataset
from engine.data.splits import Splits, steps_in_epoch
from engine.errors import ConfigError

# Share of a GPU's free memory that images may take; the network's needs are not known yet.
LARGEST_SHARE = 0.25
AT_ONCE = 4096  # images per block when measuring statistics


class Images:
    """Images indexed like a float32 tensor [N, C, H, W] in 0..1 on `device`, in a quarter of its memory.

    Bytes are converted only when a batch is indexed. They are kept on the device if they fit; otherwise in host memory, where
    batches are gathered into pinned memory and copied to the device while it computes.

    Example:
        images[torch.tensor([3, 1])]  # float32 [2, C, H, W] on the device
    """

    def __init__(self, content: Tensor, device: str | torch.device = "cpu", resident: bool | None = None) -> None:
        """Wrap images on the CPU.

        Args:
            content: [N, C, H, W], uint8 in 0..255 or float32 in 0..1.
            device: device of the batches.
            resident: keep the images on the device; None: if they fit.
        """
        self.device = torch.device(device)
        self.resident = fits(content.nbytes, self.device) if resident is None else resident
        self.content = content.to(self.device) if self.resident else content
        # A tensor on the device: for a plain number, PyTorch multiplies by its rounded inverse on a GPU but divides on a CPU.
        self.white = torch.tensor(255.0, device=self.device)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def shape(self) -> torch.Size:
        """The shape [N, C, H, W]."""
        return self.content.shape

    def __getitem__(self, chosen: Tensor | slice | EllipsisType) -> Tensor:
        """Return the pixels of some images, or of all with [...]: float32 [n, C, H, W] in 0..1 on the device.

        Args:
            chosen: integers [n] on any device, or a slice.
        """
        if isinstance(chosen, Tensor):
            chosen = chosen.to(self.content.device)
        batch = self.content[chosen] if self.resident else self._gathered(chosen)
        return batch if batch.dtype == torch.float32 else batch.to(torch.float32) / self.white

    def split(self, size: int) -> Iterator[Tensor]:
        """Return the images in order, in blocks of `size`, converted as in `__getitem__`; the last block may be smaller."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def _gathered(self, chosen: Tensor | slice | EllipsisType) -> Tensor:
        if self.device.type != "cuda":
            return self.content[chosen].to(self.device)
        if not isinstance(chosen, Tensor):
            return self.content[chosen].pin_memory().to(self.device, non_blocking=True)
        batch = torch.empty((len(chosen), *self.shape[1:]), dtype=self.content.dtype, pin_memory=True)
        torch.index_select(self.content, 0, chosen, out=batch)
        return batch.to(self.device, non_blocking=True)  # PyTorch reuses pinned memory only after the copy


def fits(size: int, device: torch.device) -> bool:
    """Return True if `size` bytes can be kept on the device."""
    return device.type != "cuda" or size <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]


def load_split(dataset: Dataset | str, splits: Splits, name: str | tuple[str, ...],
               device: str | torch.device = "cpu") -> tuple[Images, Tensor]:
    """Load one split, or several concatenated.

    Args:
        dataset: description or registry name.
        splits: from `make_splits` on this dataset's labels.
        name: "weights", "alphas", "select" or "test", or a tuple of them. The caller must record every opening of "test".
        device: device of the labels and of image batches.

    Returns:
        Images, indexed like a float32 tensor [N, C, H, W] in 0..1, and labels int64 [N].

    Raises:
        ConfigError: an unknown split, or a dataset whose content does not match its description.
        DataError: a dataset that is not prepared.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    images, labels = _arrays(dataset)
    indices = splits.indices(*((name,) if isinstance(name, str) else name))
    return Images(torch.from_numpy(images[indices]), device), torch.from_numpy(labels[indices]).to(device)


def batches(images: int, batch_size: int, generator: torch.Generator, limit: int | None = None) -> Iterator[Tensor]:
    """Yield the batches of one pass in random order.

    Args:
        images: number of images to index.
        batch_size: images per batch; the last batch may be smaller, and is dropped if it holds a single image.
        generator: source of the order, for example `generator_for(seed, "order", epoch)`.
        limit: maximum number of batches.

    Yields:
        Indices int64 [b] on the generator's device, `steps_in_epoch` times.
    """
    order = torch.randperm(images, generator=generator, device=generator.device)
    for step in range(steps_in_epoch(images, batch_size, limit)):
        yield order[step * batch_size : (step + 1) * batch_size]


def channel_statistics(dataset: Dataset, images: Images) -> ChannelStatistics:
    """Return each channel's mean and standard deviation: as published for the dataset, otherwise measured on `images`.

    Args:
        dataset: description of the dataset.
        images: images that weights are trained on. A constant channel gets the standard deviation 1.
    """
    return dataset.channel_statistics or measured_statistics(images.split(AT_ONCE))


def measured_statistics(blocks: Iterable[Tensor]) -> ChannelStatistics:
    """Measure each channel's mean and standard deviation (1 for a constant channel) on blocks [n, C, H, W]."""
    # float64 keeps about twelve digits in the sum of squares of a few million numbers in 0..1.
    count, sums = 0, torch.zeros(())
    for block in blocks:
        pixels = block.double()
        count += pixels[:, 0].numel()
        sums = sums + torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))]).cpu()
    mean, squares = sums / count
    std = (squares - mean.square()).clamp(min=0).sqrt()
    return ChannelStatistics(tuple(mean.tolist()), tuple(torch.where(std > 1e-6, std, 1.0).tolist()))


def checked(dataset: Dataset) -> tuple[Any, Any]:
    """Load a dataset's (images float32 or uint8 [N, C, H, W], labels int64 [N]) and check them against its description.

    Raises:
        ConfigError: other shapes, dtypes, pixel values or labels than described.
    """
    images, labels = dataset.load()
    expected = (dataset.images, *dataset.image_shape)
    if images.shape != expected or images.dtype not in (np.float32, np.uint8):
        raise ConfigError(f"{dataset.title} must hold float32 images or bytes of shape {expected}, got {images.dtype} of shape "
                          f"{images.shape}; restore the dataset's files.")
    if labels.shape != (dataset.images,) or labels.dtype != np.int64:
        raise ConfigError(f"{dataset.title} must hold {dataset.images} int64 labels, got {labels.dtype} of shape "
                          f"{labels.shape}; restore the dataset's files.")
    if images.dtype == np.float32 and (images.min() < 0 or images.max() > 1):
        raise ConfigError(f"{dataset.title} must hold pixels in 0..1, got {images.min()} to {images.max()}; scale them.")
    if set(np.unique(labels)) != set(range(dataset.classes)):
        raise ConfigError(f"{dataset.title} must hold the labels 0 to {dataset.classes - 1}, each at least once, got "
                          f"{np.unique(labels).tolist()}; restore the dataset's files.")
    return images, labels


@lru_cache(maxsize=1)
def _arrays(dataset: Dataset) -> tuple[Any, Any]:
    """Return `checked` arrays, cached for one dataset because all splits of a run use the same arrays."""
    return checked(dataset)
