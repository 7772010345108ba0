"""The contents of a dataset: sample images, the four splits with their hashes, and the number of images of each class."""

from __future__ import annotations

import streamlit as st

from app.components.html_table import Markup, StaticColumn, code, html_table
from app.components.states import problem
from app.drawing.sample_grid import grid_png
from app.formats import escape
from engine.data import prepared
from engine.data.catalogue import DATASETS
from engine.data.dataset import Dataset
from engine.data.summary import SplitSummary, Summary, summary
from engine.errors import RampartError

MOST_ROWS = 20  # classes that are listed one by one
PURPOSES = {"weights": "trains weights", "alphas": "trains alphas of a search", "select": "selects checkpoints and candidates",
            "test": "measures results; opened by attack runs only"}


def content(dataset: Dataset) -> Summary | None:
    """Show samples and splits of a dataset that is on this machine. Return its summary, or None if it cannot be read."""
    record = prepared.record_of(dataset.name) or {}
    try:
        with st.spinner("Reading the images", show_time=True):
            found, picture = _read(dataset.name, str(record.get("hash", "")))
    except RampartError as refusal:
        problem(str(refusal), link=None)
        return None
    st.html(samples_html(dataset, _names(dataset), picture))
    st.html(splits_html(found, dataset.name))
    return found


def balance(dataset: Dataset, found: Summary) -> None:
    """Show the number of images of each class in each split, unless the dataset has too many classes."""
    if dataset.classes <= MOST_ROWS:
        st.html(balance_html(found, _names(dataset), dataset.name))


def _names(dataset: Dataset) -> list[str]:
    record = prepared.record_of(dataset.name) or {}
    return [str(name) for name in record.get("class_names", range(dataset.classes))]


@st.cache_data(show_spinner=False, max_entries=16)
def _read(name: str, hash_of_record: str) -> tuple[Summary, str]:
    """Return the summary of a dataset and its sample picture. Both are cached until the dataset is prepared anew."""
    found = summary(DATASETS[name])
    return found, grid_png(found.samples)


def samples_html(dataset: Dataset, names: list[str], picture: str) -> str:
    """Return the sample picture as HTML, with the name of each class above its column."""
    shown = names[:min(dataset.classes, 10)]
    heads = "".join(f"<span>{escape(name)}</span>" for name in shown)
    more = f", the first {len(shown)} of {dataset.classes} classes" if dataset.classes > len(shown) else ""
    return (f'<figure class="rp-samplegrid"><div class="rp-samplehead" style="grid-template-columns:repeat({len(shown)},1fr)">'
            f'{heads}</div><img src="{picture}" alt="Sample images of {escape(dataset.title)}, one column for each class">'
            f'<figcaption class="rp-label">Images of the weights split{more}. Test images are not shown.</figcaption></figure>')


def splits_html(found: Summary, name: str) -> str:
    """Return an HTML table with the images and the hash of each of the four splits of the dataset `name`."""
    total = sum(split.images for split in found.splits)
    columns = (
        StaticColumn[SplitSummary]("Split", lambda split: Markup(
            f"<b>{split.name}</b><br><span class='rp-label'>{PURPOSES[split.name]}</span>"), names_row=True),
        StaticColumn[SplitSummary]("Images", lambda split: f"{split.images:,}", right=True,
                                   data=lambda split: {"images": split.images}),
        StaticColumn[SplitSummary]("Share", lambda split: f"{100 * split.images / total:.1f} %", right=True,
                                   data=lambda split: {"share": split.images / total}),
        StaticColumn[SplitSummary]("Per class", lambda split: _range(split.per_class), right=True,
                                   data=lambda split: {"images_per_class": list(split.per_class)}),
        StaticColumn[SplitSummary]("Hash", lambda split: code(split.hash)))
    note = (f"Splits of split_seed 0. Runs record the hash of all four splits, {found.split_hash}, and that of the "
            f"images and labels, {found.data_hash}.")
    return html_table(columns, found.splits, label="Splits", note=note, look="rp-wrap", file=f"{name}-splits")


def balance_html(found: Summary, names: list[str], name: str) -> str:
    """Return the table with the number of images of each class in each split of the dataset `name`."""
    columns = [StaticColumn[int]("Class", lambda label: names[label], names_row=True)]
    columns += [StaticColumn[int](split.name, lambda label, split=split: f"{split.per_class[label]:,}",  # type: ignore[misc]
                                  right=True, data=lambda label, split=split: {f"{split.name}_images": split.per_class[label]})  # type: ignore[misc]
                for split in found.splits]
    totals = [sum(numbers) for numbers in zip(*(split.per_class for split in found.splits), strict=True)]
    columns.append(StaticColumn[int]("All", lambda label: f"{totals[label]:,}", right=True,
                                     data=lambda label: {"images": totals[label]}))
    return html_table(columns, range(len(names)), label="Images of each class", file=f"{name}-classes")


def _range(numbers: tuple[int, ...]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
