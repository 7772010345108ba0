"""Cheap facts about this machine and dataset that a person wants to know before a launch. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import streamlit as st

from app.components.formats import escape
from engine.config import RunConfig
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.data.splits import split_sizes

# A quick chain leaves some ten megabytes; below this a run is likely to meet a full disk.
LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Fact:
    """One line of the list.

    Attributes:
        level: "good", "note" (worth knowing) or "bad" (a launch will fail or wait).
        name: what it is about, one word or two.
        text: the fact, one sentence.
    """

    level: Literal["good", "note", "bad"]
    name: str
    text: str


def facts(config: RunConfig, runs: Path, running: int, queued: int) -> list[Fact]:
    """The list for one configuration.

    Args:
        config: what is to be launched.
        runs: the runs folder, for its disk.
        running: runs that are running now.
        queued: runs that wait now.
    """
    return [dataset_fact(config), *second_dataset_facts(config), device_fact(config.device), _cores_fact(), disk_fact(runs),
            busy_fact(running, queued)]


def dataset_fact(config: RunConfig) -> Fact:
    """Whether the images are there, and how to get them. Digits ship with scikit-learn."""
    data = DATASETS[config.dataset]
    if missing := absence(data):
        return Fact("bad", "Dataset", missing)
    channels, height, width = data.image_shape
    used = f", {config.images} of each split used" if config.images else ""
    return Fact("good", "Dataset", f"{data.title}, present: {data.images:,} images of {height}x{width} pixels, "
                f"{channels} {'channel' if channels == 1 else 'channels'}, {data.classes} classes{used}.")


def second_dataset_facts(config: RunConfig) -> list[Fact]:
    """Whether the out-of-distribution images of a search are there; nothing where it reads none."""
    found = []
    for data in map(image_source, config.datasets()[1:]):
        missing = absence(data)
        sizes = split_sizes(data, config.images)
        text = missing or (f"{data.title}, present: {sizes['weights'] + sizes['alphas']:,} images, fitted to those of the "
                           "dataset; labels are not read.")
        found.append(Fact("bad" if missing else "good", "Out-of-distribution images", text))
    return found


def device_fact(device: str) -> Fact:
    """Which device the run will take, found without torch."""
    names = gpu_names()
    if device.startswith("cuda") and not names:
        return Fact("bad", "Device", f"{device} was asked for, but no NVIDIA GPU answers here. Choose auto or cpu.")
    if device == "cpu" or not names:
        reason = "" if names or device == "cpu" else " No NVIDIA GPU answers here."
        return Fact("good", "Device", f"CPU, {os.cpu_count()} cores.{reason}")
    index = int(device.partition(":")[2] or 0)
    if index >= len(names):
        return Fact("bad", "Device", f"{device} was asked for, but there are {len(names)} GPUs, numbered from 0.")
    return Fact("good", "Device", names[index] + ".")


@st.cache_data(ttl=30, show_spinner=False)
def gpu_names() -> list[str]:
    """Name and free memory of each NVIDIA GPU, as nvidia-smi says; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.replace(",", ", free memory:") for line in answer.stdout.splitlines() if line.strip()]


def _cores_fact() -> Fact:
    cores = os.cpu_count() or 1
    load = psutil.getloadavg()[0]
    free = max(0, round(cores - load))
    text = f"{free} of {cores} CPU cores free (load {load:.1f} in the last minute)."
    return Fact("good" if free else "note", "Cores", text if free else text + " The run will be slower than usual.")


def disk_fact(runs: Path) -> Fact:
    """Free space where the runs folder is, or will be."""
    folder = runs.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:,.1f} GiB free in {runs}."
    return Fact("good", "Disk", text) if free > LOW_DISK_BYTES else Fact("bad", "Disk", text + " Free some before a launch.")


def busy_fact(running: int, queued: int) -> Fact:
    """What else runs or waits."""
    if not running and not queued:
        return Fact("good", "Queue", "Nothing else runs: it starts at once.")
    parts = [f"{count} {word}" for count, word in ((running, "running"), (queued, "queued")) if count]
    return Fact("note", "Queue", f"{' and '.join(parts)} already: this one may wait for its turn.")


STYLE = """<style>.rp-facts { display: grid; grid-template-columns: 1rem 4rem 1fr; gap: 0.4rem 0.5rem; font-size: 0.92rem;
 line-height: 1.45; } .rp-facts b { font-weight: 600; }</style>"""


def draw(found: list[Fact]) -> None:
    """The list: a sign for the level, the name, the fact."""
    signs = {"good": ("✓", "good", "in order"), "note": ("!", "warn", "worth knowing"), "bad": ("✕", "bad", "in the way")}
    rows = "".join(f'<span class="rp-tone-{tone}" role="img" aria-label="{words}">{sign}</span><b>{fact.name}</b>'
                   f"<span>{escape(fact.text)}</span>" for fact in found for sign, tone, words in [signs[fact.level]])
    st.html(f'{STYLE}<div class="rp-facts">{rows}</div>')
