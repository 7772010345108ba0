"""Small files in the official formats, and dataset descriptions that match them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from engine.data.catalogue import DATASETS
from engine.data.cifar import TEST_10, TEST_100, TRAIN_10, TRAIN_100
from engine.data.dataset import Dataset, Source

PER_CLASS, TEST_PER_CLASS = 40, 10


@dataclass(frozen=True)
class Small:
    """A small dataset of an official format.

    Attributes:
        dataset: the official description, with the sizes and checksums of the small files.
        folder: the folder of the files.
        images, labels: their content, the test set last; images are uint8 [N, C, H, W].
    """

    dataset: Dataset
    folder: Path
    images: np.ndarray
    labels: np.ndarray


def pictures(classes: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (uint8 [N, 3, side, side], shuffled labels, size of the test set)."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([random.permutation(np.repeat(np.arange(classes), count)) for count in (PER_CLASS, TEST_PER_CLASS)])
    return random.integers(256, size=(len(labels), 3, side, side), dtype=np.uint8), labels, TEST_PER_CLASS * classes


def small(name: str, folder: Path) -> Small:
    """Write the files of the named official dataset with few images to `folder`; return the dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    return MAKERS[name](DATASETS[name], folder)


def tar_gz(path: Path, top: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def described(dataset: Dataset, folder: Path, images: np.ndarray, labels: np.ndarray, test: int, classes: int) -> Small:
    sources = tuple(described_source(source, folder / source.file) for source in dataset.sources)
    facts = replace(dataset, classes=classes, images=len(labels), test_images=test, sources=sources)
    return Small(facts, folder, images, labels)


def described_source(source: Source, path: Path, url: str = "http://127.0.0.1:9/none") -> Source:
    content = path.read_bytes()
    return replace(source, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), url=url)


def cifar(dataset: Dataset, folder: Path, *, train: tuple[str, ...], test: str, coarse: bool, classes: int) -> Small:
    images, labels, count = pictures(classes, 32)
    named = [labels[:, None] // 5, labels[:, None]] if coarse else [labels[:, None]]
    records = np.concatenate([*named, images.reshape(len(images), -1)], axis=1).astype(np.uint8)
    parts = [*np.array_split(records[:-count], len(train)), records[-count:]]
    # In the official archives the test file lies between the others.
    files = {name: part.tobytes() for name, part in sorted(zip((*train, test), parts), key=lambda pair: hash_order(pair[0]))}
    tar_gz(folder / dataset.sources[0].file, dataset.sources[0].unpacked, {"readme.html": b"<p>", **files})
    return described(dataset, folder, images, labels, count, classes)


def hash_order(name: str) -> str:
    """Return a fixed order that differs from the one in which the files are read."""
    return hashlib.sha256(name.encode()).hexdigest()


def svhn(dataset: Dataset, folder: Path) -> Small:
    images, labels, count = pictures(10, 32)
    for file, part in (("train_32x32.mat", slice(None, -count)), ("test_32x32.mat", slice(-count, None))):
        named = np.where(labels[part] == 0, 10, labels[part]).astype(np.uint8)
        savemat(folder / file, {"X": images[part].transpose(2, 3, 1, 0), "y": named[:, None]}, do_compression=True)
    return described(dataset, folder, images, labels, count, 10)


def tiny_imagenet(dataset: Dataset, folder: Path) -> Small:
    images, labels, count = pictures(3, 64)
    words = ["n02124075", "n01443537", "n09999999"]  # wnids.txt is not sorted
    ordered = sorted(words)
    files: dict[str, bytes] = {"wnids.txt": "\n".join(words).encode(), "words.txt": b"n00000001\tentity\n"}
    lines, order, shown = [], [], {}
    for number, (image, label) in enumerate(zip(images, labels)):
        in_test = number >= len(images) - count
        name = f"val/images/val_{number}.JPEG" if in_test else f"train/{ordered[label]}/images/{ordered[label]}_{number}.JPEG"
        if in_test:
            lines.append(f"val_{number}.JPEG\t{ordered[label]}\t0\t0\t62\t62\n")
        buffer = io.BytesIO()
        # Some of the official pictures are grey.
        Image.fromarray(image.transpose(1, 2, 0)).convert("L" if number % 7 == 0 else "RGB").save(buffer, "JPEG")
        files[name], shown[name] = buffer.getvalue(), np.asarray(Image.open(buffer).convert("RGB")).transpose(2, 0, 1)
        order.append((in_test, number if in_test else name, name, label))
    for word in words:
        files[f"train/{word}/{word}_boxes.txt"] = b"a_0.JPEG\t0\t0\t1\t1\n"
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = files[order[0][2]]
    with zipfile.ZipFile(folder / dataset.sources[0].file, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    order = sorted(entry for entry in order if not entry[0]) + [entry for entry in order if entry[0]]
    return described(dataset, folder, np.stack([shown[name] for _, _, name, _ in order]), np.array([entry[3] for entry in order]),
                     count, 3)


MAKERS: dict[str, Callable[[Dataset, Path], Small]] = {
    "cifar10": partial(cifar, train=TRAIN_10, test=TEST_10, coarse=False, classes=10),
    "cifar100": partial(cifar, train=TRAIN_100, test=TEST_100, coarse=True, classes=20),
    "svhn": svhn, "tiny-imagenet": tiny_imagenet}
