"""Images of a second dataset for a search, fitted to the image shape of the first; their labels are never used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.augmentation import generator_for
from engine.data.dataset import ChannelStatistics, Dataset
from engine.data.loading import AT_ONCE, Images, load_split, measured_statistics
from engine.data.splits import Splits

# The second dataset's splits that a search may use; its select and test splits stay unseen.
SPLITS_SEEN = ("weights", "alphas")
# Luma weights of red, green and blue (ITU-R BT.601), the usual conversion of colour to grey.
LUMA = (0.299, 0.587, 0.114)


class OutOfDistributionImages:
    """Batches from a second dataset's weights and alphas splits together, without augmentation.

    An epoch makes as many passes over the images as it needs, each in a new random order; the incomplete last batch of a pass is
    dropped. No image is repeated within a pass.
    """

    def __init__(self, images: Images, image_shape: Sequence[int], *, batch_size: int, seed: int,
                 published: ChannelStatistics | None = None) -> None:
        """
        Args:
            images: at least `batch_size` of them; batches come out on their device.
            image_shape: (channels, height, width) of the batches; channels 1 or 3.
            batch_size: images in every batch.
            seed: determines the order, together with epoch and position.
            published: published statistics of their channels, if any.
        """
        self._images, self._shape, self._size, self._seed = images, tuple(image_shape), batch_size, seed
        self._published = published
        self._order: tuple[tuple[int, int], Tensor] | None = None

    @classmethod
    def of(cls, dataset: Dataset, splits: Splits, image_shape: Sequence[int], *, batch_size: int, seed: int,
           device: torch.device) -> OutOfDistributionImages:
        """Load the images of a dataset; `splits` must be of the same dataset.

        Raises:
            ConfigError, DataError: as in `engine.data.loading.load_split`.
        """
        images, _ = load_split(dataset, splits, SPLITS_SEEN, device)
        return cls(images, image_shape, batch_size=batch_size, seed=seed, published=dataset.channel_statistics)

    def channel_statistics(self) -> ChannelStatistics:
        """Return the statistics of the batches' channels: published if the number of channels is kept, otherwise measured."""
        if self._published is not None and len(self._published.mean) == self._shape[0]:
            return self._published
        return measured_statistics(fitted(block, self._shape) for block in self._images.split(AT_ONCE))

    def batch(self, epoch: int, position: int) -> Tensor:
        """Return [batch_size, C, H, W] in 0..1, determined only by seed, epoch and position in the epoch (both from 0)."""
        turn, place = divmod(position, len(self._images) // self._size)
        if self._order is None or self._order[0] != (epoch, turn):
            generator = generator_for(self._seed, "order", "out of distribution", epoch, turn)
            self._order = (epoch, turn), torch.randperm(len(self._images), generator=generator)
        return fitted(self._images[self._order[1][place * self._size : (place + 1) * self._size]], self._shape)


def restated(x: Tensor, theirs: ChannelStatistics, ours: ChannelStatistics) -> Tensor:
    """Rescale x [B, C, H, W] so that normalising by `ours` gives x normalised by `theirs`; the result may leave 0..1."""
    (mean, std), (our_mean, our_std) = ((x.new_tensor(row)[:, None, None] for row in rows) for rows in (theirs, ours))
    return (x - mean) / std * our_std + our_mean


def fitted(x: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Convert images to another shape: colour to grey by luma, grey to colour by repetition, then antialiased bilinear resize.

    Images that already have the shape keep their values.

    Args:
        x: [B, C, H, W], pixels in 0..1; C is 1 or 3.
        image_shape: target (channels, height, width); channels 1 or 3.

    Raises:
        ValueError: a number of channels other than 1 or 3.
    """
    channels, height, width = image_shape
    if {x.shape[1], channels} - {1, 3}:
        raise ValueError(f"images must be grey (1 channel) or in colour (3), got {x.shape[1]} channels to convert to {channels}")
    if x.shape[1] > channels:
        x = (x * x.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    elif x.shape[1] < channels:
        x = x.expand(-1, channels, -1, -1)
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    return x.clamp(0, 1)  # removes rounding errors
