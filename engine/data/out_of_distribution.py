"""Images of a second dataset for a search, fitted to the image shape of the first; their labels are never read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.augmentation import generator_for
from engine.data.dataset import ChannelStatistics, Dataset
from engine.data.loading import AT_ONCE, Images, load_split, measured_statistics
from engine.data.splits import Splits

# Of the second dataset: what it keeps for choosing and for testing stays unseen.
SPLITS_SEEN = ("weights", "alphas")
# Brightness of red, green and blue (ITU-R BT.601), as image programs turn colour into grey.
LUMA = (0.299, 0.587, 0.114)


class OutOfDistributionImages:
    """Batches of a second dataset's weights and alphas splits together, without augmentation.

    Within an epoch every image comes once before any comes again, in an order drawn anew for each pass; what is left of a pass
    when no whole batch remains is left out.
    """

    def __init__(self, images: Images, image_shape: Sequence[int], *, batch_size: int, seed: int,
                 published: ChannelStatistics | None = None) -> None:
        """
        Args:
            images: at least `batch_size` of them; batches come out on their device.
            image_shape: (channels, height, width) that batches are to have; channels 1 or 3.
            batch_size: images of every batch.
            seed: decides the order, together with epoch and position.
            published: of their channels, where there are such numbers.
        """
        self._images, self._shape, self._size, self._seed = images, tuple(image_shape), batch_size, seed
        self._published = published
        self._order: tuple[tuple[int, int], Tensor] | None = None

    @classmethod
    def of(cls, dataset: Dataset, splits: Splits, image_shape: Sequence[int], *, batch_size: int, seed: int,
           device: torch.device) -> OutOfDistributionImages:
        """Those of a dataset. splits: of this dataset.

        Raises:
            ConfigError, DataError: see `engine.data.loading.load_split`.
        """
        images, _ = load_split(dataset, splits, SPLITS_SEEN, device)
        return cls(images, image_shape, batch_size=batch_size, seed=seed, published=dataset.channel_statistics)

    def channel_statistics(self) -> ChannelStatistics:
        """Of the images as batches hold them: published where no channel was made or lost, else measured on all of them."""
        if self._published is not None and len(self._published.mean) == self._shape[0]:
            return self._published
        return measured_statistics(fitted(block, self._shape) for block in self._images.split(AT_ONCE))

    def batch(self, epoch: int, position: int) -> Tensor:
        """[batch_size, C, H, W] in 0..1, decided by seed, epoch and position in the epoch (both from 0) alone."""
        turn, place = divmod(position, len(self._images) // self._size)
        if self._order is None or self._order[0] != (epoch, turn):
            generator = generator_for(self._seed, "order", "out of distribution", epoch, turn)
            self._order = (epoch, turn), torch.randperm(len(self._images), generator=generator)
        return fitted(self._images[self._order[1][place * self._size : (place + 1) * self._size]], self._shape)


def restated(x: Tensor, theirs: ChannelStatistics, ours: ChannelStatistics) -> Tensor:
    """Images [B, C, H, W] that a network normalising by `ours` sees as x normalised by `theirs`; no longer in 0..1."""
    (mean, std), (our_mean, our_std) = ((x.new_tensor(row)[:, None, None] for row in rows) for rows in (theirs, ours))
    return (x - mean) / std * our_std + our_mean


def fitted(x: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Images of another shape: colour turned into grey by brightness or grey repeated, then resized by triangles as wide as the
    coarser of the two grids (bilinear, antialiased). Images that have the shape come back as they are.

    Args:
        x: [B, C, H, W], pixels in 0..1; C is 1 or 3.
        image_shape: (channels, height, width) wanted; channels 1 or 3.

    Raises:
        ValueError: other channels than grey or colour.
    """
    channels, height, width = image_shape
    if {x.shape[1], channels} - {1, 3}:
        raise ValueError(f"images are grey (1 channel) or in colour (3), got {x.shape[1]} to be {channels}")
    if x.shape[1] > channels:
        x = (x * x.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    elif x.shape[1] < channels:
        x = x.expand(-1, channels, -1, -1)
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    return x.clamp(0, 1)  # rounding errors of the sums
