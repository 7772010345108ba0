"""Facts about this machine and the dataset that matter before a launch. They are cheap to collect and need no torch."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import streamlit as st

from app.formats import escape, plural
from engine.config import RunConfig
from engine.data.catalogue import DATASETS, image_source
from engine.data.dataset import Dataset
from engine.data.prepared import absence
from engine.data.splits import split_sizes
from engine.files import free_bytes
from engine.run import device

# Below this free space, a run is likely to fill the disk. A chain with the preset `quick` writes tens of megabytes.
LOW_DISK_BYTES = 2 * 2**30
SIGNS = {"good": ("✓", "good", "fine"), "note": ("!", "warn", "worth knowing"), "bad": ("✕", "bad", "a problem")}


@dataclass(frozen=True)
class Fact:
    """A fact that is shown before a launch, for example about the device or the free disk space.

    Attributes:
        level: "good", "note" (worth knowing) or "bad" (the run would fail or is likely to).
        name: subject of the fact in a few words.
        text: the fact in one or two sentences.
    """

    level: Literal["good", "note", "bad"]
    name: str
    text: str


def facts(config: RunConfig, runs: Path, running: int, queued: int) -> list[Fact]:
    """Return all facts that matter before a run is launched.

    Args:
        config: configuration of the run.
        runs: the runs folder, which will hold the files of the run.
        running: number of runs that are running now.
        queued: number of runs that wait to be started.
    """
    return [dataset_fact(config), *second_dataset_facts(config), device_fact(config.device), cores_fact(), disk_fact(runs),
            queue_fact(running, queued)]


def dataset_fact(config: RunConfig) -> Fact:
    """Return a fact giving the number and size of the dataset's images. If the images are missing, it says how to get them."""
    data = DATASETS[config.dataset]
    if reason := absence(data):
        return Fact("bad", "Dataset", reason)
    channels, height, width = data.image_shape
    used = f", of which {config.images} of each split are used" if config.images else ""
    return Fact("good", "Dataset", f"{data.title}: {data.images:,} images of {height}x{width} pixels, "
                f"{plural(channels, 'channel')}, {data.classes} classes{used}.")


def second_dataset_facts(config: RunConfig) -> list[Fact]:
    """Return one fact for each additional dataset. Some searches take out-of-distribution images from such a dataset."""
    return [_second_dataset_fact(config, data) for data in map(image_source, config.datasets()[1:])]


def _second_dataset_fact(config: RunConfig, data: Dataset) -> Fact:
    if reason := absence(data):
        return Fact("bad", "Out-of-distribution images", reason)
    sizes = split_sizes(data, config.images)
    return Fact("good", "Out-of-distribution images", f"{data.title}: {sizes['weights'] + sizes['alphas']:,} images, resized "
                "to those of the dataset. Their labels are not used.")


def device_fact(wanted: str) -> Fact:
    """Return a fact naming the device that a run will use, or explaining why the device is not available.

    Args:
        wanted: setting `device` of the run: "auto", "cpu", "cuda" or "cuda:N".
    """
    gpus = device.gpus()
    cores = plural(device.cores(), "core")
    if wanted == "cpu":
        return Fact("good", "Device", f"CPU, {cores}.")
    if not gpus:
        return (Fact("good", "Device", f"CPU, {cores}. No NVIDIA GPU found.") if wanted == "auto" else
                Fact("bad", "Device", f"{wanted} is not available: no NVIDIA GPU found. Choose auto or cpu."))
    index = int(wanted.partition(":")[2] or 0)
    if index >= len(gpus):
        return Fact("bad", "Device", f"{wanted} is not available: this machine has {plural(len(gpus), 'GPU')}, numbered from 0.")
    names = gpu_names()
    return Fact("good", "Device", f"{names[index] if index < len(names) else gpus[index]}.")


@st.cache_data(ttl=30, show_spinner=False)
def gpu_names() -> list[str]:
    """Return one text per NVIDIA GPU, giving the GPU's name and free memory. If nvidia-smi fails, return []."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.replace(",", ", free memory:") for line in answer.stdout.splitlines() if line.strip()]


def cores_fact() -> Fact:
    """Return a fact giving the number of idle CPU cores and the load of this machine."""
    cores, load = device.cores(), psutil.getloadavg()[0]
    idle = max(0, round(cores - load))
    text = f"{idle} of {plural(cores, 'CPU core')} free (load {load:.1f} in the last minute)."
    return Fact("good", "Cores", text) if idle else Fact("note", "Cores", f"{text} The run will be slower than usual.")


def disk_fact(runs: Path) -> Fact:
    """Return a fact giving the free space on the disk of the runs folder. The folder need not exist yet."""
    free = free_bytes(runs)
    text = f"{free / 2**30:,.1f} GiB free in {runs}."
    return Fact("good", "Disk", text) if free > LOW_DISK_BYTES else Fact("bad", "Disk", f"{text} Free some space first.")


def queue_fact(running: int, queued: int) -> Fact:
    """Return a fact giving the number of other runs that are running or waiting."""
    if not running and not queued:
        return Fact("good", "Queue", "Nothing else is running: the run starts at once.")
    parts = [f"{count} {word}" for count, word in ((running, "running"), (queued, "queued")) if count]
    return Fact("note", "Queue", f"{' and '.join(parts)} already: the run may have to wait.")


def draw(listed: list[Fact]) -> None:
    """Show a list of facts, each with its name, its text and a sign for its level."""
    rows = "".join(f'<span class="rp-tone-{tone}" role="img" aria-label="{words}">{sign}</span><b>{escape(fact.name)}</b>'
                   f"<span>{escape(fact.text)}</span>" for fact in listed for sign, tone, words in [SIGNS[fact.level]])
    st.html(f'<div class="rp-facts">{rows}</div>')
