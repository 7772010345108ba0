"""Images of a second dataset for searches that need images outside the classes of their own dataset.

The images are converted to the image shape of the search's own dataset. Their labels are never used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.augmentation import generator_for
from engine.data.dataset import ChannelStatistics, Dataset
from engine.data.loading import AT_ONCE, Images, load_split, measured_statistics
from engine.data.splits import Splits

# Splits of the second dataset from which a search may take images. It must not see the select and test splits.
SPLITS_SEEN = ("weights", "alphas")
# Weights of red, green and blue in the usual conversion of colour to grey, the luma of ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)


class OutOfDistributionImages:
    """A source of batches of images from a second dataset, without augmentation.

    The images come from the second dataset's weights and alphas splits. They are repeated as often as an epoch needs, each time
    in a new random order. Every batch is full.
    """

    def __init__(self, images: Images, image_shape: Sequence[int], *, batch_size: int, seed: int,
                 published: ChannelStatistics | None = None) -> None:
        """Create a source of batches from images that are already loaded.

        Args:
            images: images of the second dataset, at least `batch_size` of them. The batches are on the device of these images.
            image_shape: (channels, height, width) to which the images are converted. The number of channels is 1 or 3.
            batch_size: number of images in every batch.
            seed: seed that determines the random order of the images.
            published: published mean and standard deviation of the channels of `images`; None if there are none.
        """
        self._images, self._shape, self._size, self._seed = images, tuple(image_shape), batch_size, seed
        self._published = published
        self._order: tuple[tuple[int, int], Tensor] | None = None

    @classmethod
    def of(cls, dataset: Dataset, splits: Splits, image_shape: Sequence[int], *, batch_size: int, seed: int,
           device: torch.device) -> OutOfDistributionImages:
        """Load the images of a second dataset and create a source of batches from them.

        Args:
            dataset: description of the second dataset.
            splits: splits of the second dataset.
            image_shape: (channels, height, width) to which the images are converted. The number of channels is 1 or 3.
            batch_size: number of images in every batch.
            seed: seed that determines the random order of the images.
            device: device of the batches.

        Raises:
            ConfigError: the content of the dataset does not match its description.
            DataError: the dataset is not prepared.
        """
        images, _ = load_split(dataset, splits, SPLITS_SEEN, device)
        return cls(images, image_shape, batch_size=batch_size, seed=seed, published=dataset.channel_statistics)

    def channel_statistics(self) -> ChannelStatistics:
        """Return the mean and standard deviation of each channel of the batches.

        If published values of the second dataset exist for the number of channels of the batches, they are returned. Otherwise,
        the values are measured on all images after conversion to the image shape of the batches.
        """
        if self._published is not None and len(self._published.mean) == self._shape[0]:
            return self._published
        return measured_statistics(fitted(block, self._shape) for block in self._images.split(AT_ONCE))

    def batch(self, epoch: int, position: int) -> Tensor:
        """Return one batch of images, [batch_size, C, H, W] in 0..1.

        The batch depends only on the source's seed and on the arguments.

        Args:
            epoch: number of the epoch, from 0.
            position: number of the batch within the epoch, from 0.
        """
        turn, place = divmod(position, len(self._images) // self._size)
        if self._order is None or self._order[0] != (epoch, turn):
            generator = generator_for(self._seed, "order", "out of distribution", epoch, turn)
            self._order = (epoch, turn), torch.randperm(len(self._images), generator=generator)
        return fitted(self._images[self._order[1][place * self._size : (place + 1) * self._size]], self._shape)


def restated(x: Tensor, theirs: ChannelStatistics, ours: ChannelStatistics) -> Tensor:
    """Rescale images so that normalising the result with `ours` equals normalising the original images with `theirs`.

    The network itself normalises with `ours`, although the images need `theirs`.

    Args:
        x: images [B, C, H, W] of the second dataset, pixels in 0..1.
        theirs: mean and standard deviation of the channels of the second dataset.
        ours: mean and standard deviation with which the network normalises its input.

    Returns:
        Images [B, C, H, W], whose pixels may be outside 0..1.
    """
    (mean, std), (our_mean, our_std) = ((x.new_tensor(row)[:, None, None] for row in rows) for rows in (theirs, ours))
    return (x - mean) / std * our_std + our_mean


def fitted(x: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Convert images to another shape. Images that already have this shape keep their values.

    Colour is converted to grey by a weighted sum of the channels (luma), and grey to colour by repeating the channel. Then the
    images are resized by bilinear interpolation with antialiasing.

    Args:
        x: images [B, C, H, W], pixels in 0..1. C is 1 or 3.
        image_shape: target shape (channels, height, width). The number of channels is 1 or 3.

    Raises:
        ValueError: the number of channels of the images or of the target is neither 1 nor 3.
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
