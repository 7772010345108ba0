"""The datasets CIFAR-10 and CIFAR-100, each with 60,000 colour photographs of 32x32 pixels (Krizhevsky 2009).

They are read from the authors' binary archives. A record in an archive consists of one or two label bytes and 3,072 pixel bytes.
The more common Python archives are not used, because they contain pickles, which can execute arbitrary code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from engine.data import prepared
from engine.data.archives import read_files
from engine.data.dataset import OFFICIAL_FRACTIONS, Block, ChannelStatistics, Dataset, Source, few_images
from engine.errors import DataError

PIXELS = 3 * 32 * 32
TRAIN_10, TEST_10 = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"
TRAIN_100, TEST_100 = ("train.bin",), "test.bin"
PAGE = "https://www.cs.toronto.edu/~kriz"


def read(places: Sequence[Path], *, train: tuple[str, ...], test: str, label_bytes: int) -> Iterator[Block]:
    """Yield the images of each file as one block, training files first.

    Args:
        places: one path, of the archive or of the folder to which it was unpacked.
        train: names of the files with training images.
        test: name of the file with test images.
        label_bytes: number of label bytes before each image. The last of these bytes is the class. (CIFAR-100 has a coarse and
            then a fine label.)

    Raises:
        DataError: a file is missing or does not consist of complete records.
    """
    import numpy as np

    files = read_files(places[0], (*train, test))
    for name in (*train, test):
        content, size = files[name], label_bytes + PIXELS
        if not content or len(content) % size:
            raise DataError(f"{name} in {places[0]} must hold records of {size} bytes, got {len(content)} bytes; restore it.")
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
        yield Block(records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1], test=name == test)


CIFAR10 = Dataset(
    name="cifar10", title="CIFAR-10",
    description="60,000 colour photographs of 32x32 pixels in ten classes; tested on its official test set of 10,000.",
    classes=10, image_shape=(3, 32, 32), images=60_000, test_images=10_000,
    epsilon=8 / 255, step_size=None, split_fractions=OFFICIAL_FRACTIONS, load=partial(prepared.load, "cifar10"), published=True,
    # From the DARTS code, cnn/utils.py.
    channel_statistics=ChannelStatistics((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    out_of_distribution="svhn",
    quick=few_images(128, 16), origin="Krizhevsky 2009",
    # Checksum and size from tensorflow/datasets, tensorflow_datasets/url_checksums/cifar10.txt.
    sources=(Source("cifar-10-binary.tar.gz", f"{PAGE}/cifar-10-binary.tar.gz",
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171, "cifar-10-batches-bin"),),
    read=partial(read, train=TRAIN_10, test=TEST_10, label_bytes=1))

# The papers evaluate on CIFAR-100, but their code does not contain its training settings, so those of CIFAR-10 are used.
CIFAR100 = Dataset(
    name="cifar100", title="CIFAR-100",
    description="60,000 colour photographs of 32x32 pixels in 100 classes; tested on its official test set of 10,000.",
    classes=100, image_shape=(3, 32, 32), images=60_000, test_images=10_000,
    epsilon=8 / 255, step_size=None, split_fractions=OFFICIAL_FRACTIONS, load=partial(prepared.load, "cifar100"), published=True,
    # From the E2RNAS code, utils.py.
    channel_statistics=ChannelStatistics((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    out_of_distribution="svhn",
    quick=few_images(128, 16), origin="Krizhevsky 2009",
    # Checksum and size from tensorflow/datasets, tensorflow_datasets/url_checksums/cifar100.txt.
    sources=(Source("cifar-100-binary.tar.gz", f"{PAGE}/cifar-100-binary.tar.gz",
                    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168_513_733, "cifar-100-binary"),),
    read=partial(read, train=TRAIN_100, test=TEST_100, label_bytes=2))
