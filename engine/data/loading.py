"""Loading of splits (the four disjoint parts of a dataset), and division of their images into batches.

Images are kept as bytes, on the device if they fit, and are converted to float32 batch by batch.
"""

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
from engine.data.transfer import to_device
from engine.errors import ConfigError

# Largest fraction of a GPU's free memory that images may take. The rest is left to the network, whose needs are not yet known.
LARGEST_SHARE = 0.25
AT_ONCE = 4096  # number of images in a block when statistics are measured


class Images:
    """A set of images that can be indexed like a float32 tensor [N, C, H, W] in 0..1 on `device`.

    Images given as uint8 are converted only when a batch is indexed, so they take a quarter of the memory. Images are kept on the
    device if they fit, and otherwise in host memory. Batches from host memory are copied to a GPU while it computes.

    Example:
        images[torch.tensor([3, 1])]  # float32 [2, C, H, W] on the device
    """

    def __init__(self, content: Tensor, device: str | torch.device = "cpu", resident: bool | None = None) -> None:
        """Wrap images that are on the CPU.

        Args:
            content: images [N, C, H, W], uint8 in 0..255 or float32 in 0..1.
            device: device of the batches.
            resident: True to keep all images on the device, False to keep them in host memory, None to keep them on the device
                if they fit.
        """
        self.device = torch.device(device)
        self.resident = fits(content.nbytes, self.device) if resident is None else resident
        self.content = content.to(self.device) if self.resident else content
        # The divisor is a tensor on the device, so that CPU and GPU give equal results. To divide by a plain number, PyTorch
        # would multiply by the number's rounded inverse on a GPU, but divide on a CPU.
        self.white = torch.tensor(255.0, device=self.device)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def shape(self) -> torch.Size:
        """The shape of all images together, [N, C, H, W]."""
        return self.content.shape

    def __getitem__(self, chosen: Tensor | slice | EllipsisType) -> Tensor:
        """Return some of the images as float32 [n, C, H, W] in 0..1 on the device.

        Args:
            chosen: positions of the images, as integers [n] on any device or as a slice; `...` for all images.
        """
        if isinstance(chosen, Tensor):
            chosen = to_device(chosen, self.content.device)
        batch = self.content[chosen] if self.resident else self._gathered(chosen)
        return batch if batch.dtype == torch.float32 else batch.to(torch.float32) / self.white

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, in blocks of `size` images, as float32 in 0..1. The last block may be smaller."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def _gathered(self, chosen: Tensor | slice | EllipsisType) -> Tensor:
        if self.device.type != "cuda":
            return self.content[chosen].to(self.device)
        if not isinstance(chosen, Tensor):
            return to_device(self.content[chosen], self.device)
        batch = torch.empty((len(chosen), *self.shape[1:]), dtype=self.content.dtype, pin_memory=True)
        torch.index_select(self.content, 0, chosen, out=batch)
        return batch.to(self.device, non_blocking=True)  # PyTorch reuses the pinned memory only after the copy has ended


def fits(size: int, device: torch.device) -> bool:
    """Return True if `size` bytes of images may be kept on the device.

    On a GPU, the images may take at most a quarter of the free memory. On a CPU any size is allowed.
    """
    return device.type != "cuda" or size <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]


def load_split(dataset: Dataset | str, splits: Splits, name: str | tuple[str, ...],
               device: str | torch.device = "cpu") -> tuple[Images, Tensor]:
    """Load the images and labels of one split, or of several splits one after another.

    Args:
        dataset: description of the dataset, or its name in the registry.
        splits: splits of the dataset, from `make_splits`.
        name: "weights", "alphas", "select" or "test", or a tuple of these. A caller that loads "test" must record this in the
            run.
        device: device of the labels and of the image batches.

    Returns:
        images: the images, which can be indexed like a float32 tensor [N, C, H, W] in 0..1.
        labels: int64 [N].

    Raises:
        ConfigError: there is no split of this name, or the content of the dataset does not match its description.
        DataError: the dataset is not prepared.
    """
    dataset = DATASETS[dataset] if isinstance(dataset, str) else dataset
    images, labels = _arrays(dataset)
    indices = splits.indices(*((name,) if isinstance(name, str) else name))
    return Images(torch.from_numpy(images[indices]), device), torch.from_numpy(labels[indices]).to(device)


def batches(images: int, batch_size: int, generator: torch.Generator, limit: int | None = None) -> Iterator[Tensor]:
    """Yield batches of image positions for one pass over the images, in random order.

    Args:
        images: number of images.
        batch_size: number of images in a batch. The last batch may be smaller. A last batch of a single image is dropped, because
            BatchNorm cannot train on it.
        generator: random generator that determines the order, for example `generator_for(seed, "order", epoch)`.
        limit: maximum number of batches; None for no limit.

    Yields:
        Positions of the images of a batch, int64 [b], on the generator's device. `steps_in_epoch` returns the number of batches.
    """
    order = torch.randperm(images, generator=generator, device=generator.device)
    for step in range(steps_in_epoch(images, batch_size, limit)):
        yield order[step * batch_size : (step + 1) * batch_size]


def channel_statistics(dataset: Dataset, images: Images) -> ChannelStatistics:
    """Return the mean and standard deviation of each image channel, for normalisation.

    If `dataset` has values from the code of published papers, these are returned. If not, the values are measured on `images`.

    Args:
        dataset: description of the dataset.
        images: images on which the network's weights are trained.
    """
    return dataset.channel_statistics or measured_statistics(images.split(AT_ONCE))


def measured_statistics(blocks: Iterable[Tensor]) -> ChannelStatistics:
    """Measure the mean and standard deviation of each channel over all images in the blocks [n, C, H, W].

    The standard deviation of a constant channel is set to 1, so that it can be a divisor.
    """
    # In float64, the sum of squares of a few million numbers in 0..1 is exact to about twelve digits.
    count, sums = 0, torch.zeros(())
    for block in blocks:
        pixels = block.double()
        count += pixels[:, 0].numel()
        sums = sums + torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))]).cpu()
    mean, squares = sums / count
    std = (squares - mean.square()).clamp(min=0).sqrt()
    return ChannelStatistics(tuple(mean.tolist()), tuple(torch.where(std > 1e-6, std, 1.0).tolist()))


def checked(dataset: Dataset) -> tuple[Any, Any]:
    """Load a dataset and check its arrays against its description.

    Returns:
        images: float32 or uint8 [N, C, H, W].
        labels: int64 [N].

    Raises:
        ConfigError: the shapes, dtypes, pixel values or labels do not match the description.
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
    """Return the images and labels of a dataset, after checking them with `checked`.

    The latest result is cached, because all splits of a run use it.

    Returns:
        images: float32 or uint8 [N, C, H, W].
        labels: int64 [N].
    """
    return checked(dataset)
