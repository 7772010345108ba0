"""Sizes of architectures on the Architectures page, and the controls for the width, depth and dataset of the sized networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app import address
from app.architectures import Numbers, Size, numbers
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.formats import count, plural
from engine.architecture.genotype import Genotype
from engine.architecture.network import CHANNELS
from engine.architecture.placement import MINIMUM_LAYERS
from engine.data.catalogue import DATASETS

PUBLISHED = Size("cifar10", 64, 20)  # ARNAS's retraining
MOST_CELLS = 100  # of a network; more would slow the gallery down
WIDTHS = "The width of a cell is the number of channels on which its operations work; sum and product are over all cells."
COLUMNS: tuple[StaticColumn[tuple[str, Genotype, Numbers]], ...] = (
    StaticColumn("Architecture", lambda row: row[0], names_row=True),
    StaticColumn("Parameters", lambda row: count(row[2].parameters), right=True,
                 data=lambda row: {"parameters": row[2].parameters}),
    StaticColumn("MACs per image", lambda row: count(row[2].macs), right=True, data=lambda row: {"macs": row[2].macs}),
    StaticColumn("Sum of widths", lambda row: f"{row[2].width_sum:,} channels", right=True,
                 data=lambda row: {"width_sum_channels": row[2].width_sum}),
    StaticColumn("Product of widths", lambda row: power_of_ten(row[2].width_product), right=True,
                 data=lambda row: {"log10_of_width_product": row[2].width_product}),
    StaticColumn("Without parameters", lambda row: "{} of {} operations".format(*row[1].parameter_free), right=True,
                 data=lambda row: dict(zip(("parameter_free_operations", "operations"), row[1].parameter_free, strict=True))),
)


def choose_size() -> Size:
    """Show the controls of width, depth and dataset, and return the choice, which the page's address keeps."""
    left, middle, right, note = st.columns([3, 2, 2, 5], vertical_alignment="bottom")
    titles = {PUBLISHED.dataset: DATASETS[PUBLISHED.dataset].title, **{name: entry.title for name, entry in DATASETS.items()}}
    dataset = address.selectbox(left, "Sizes for", titles, name="dataset", key="architectures.dataset",
                                help="The dataset gives the size of images and the number of classes.")
    channels = address.number(middle, "Channels", name="channels", key="architectures.channels", default=PUBLISHED.channels,
                              least=CHANNELS[0], most=CHANNELS[-1], help="C, the width of the first cells.")
    layers = address.number(right, "Cells", name="layers", key="architectures.layers", default=PUBLISHED.layers,
                            least=MINIMUM_LAYERS, most=MOST_CELLS, help="Number of cells of the network, its depth.")
    note.caption("Sizes on this page are those of a network with this width and depth, without auxiliary head. Cells are placed "
                 "as published for their kinds.")
    return Size(dataset, channels, layers)


def size_table(genotypes: Mapping[str, Genotype], size: Size) -> None:
    """Show the sizes of some architectures as a table.

    Args:
        genotypes: {title: genotype}.
        size: width, depth and dataset.

    Raises:
        ConfigError: no network can have this width and depth.
    """
    rows = [(title, genotype, numbers(genotype, size)) for title, genotype in genotypes.items()]
    st.html(html_table(COLUMNS, rows, label="Sizes of architectures", note=f"{size.words}. {WIDTHS}",
                       facts={"dataset": size.dataset, "channels": size.channels, "layers": size.layers}))


def size_words(one: Numbers) -> str:
    """Return parameters and MACs in words."""
    return f"{count(one.parameters)} parameters, {count(one.macs)} MACs per image"


def power_of_ten(logarithm: float) -> Markup:
    """Return the number with this decimal logarithm as HTML, in scientific notation."""
    return Markup(f"10<sup>{logarithm:.1f}</sup>")


def with_change(before: int, after: int) -> Markup:
    """Return the number `after` as HTML, with its difference from `before` on a second line."""
    if before == after:
        return with_label(count(after), "unchanged")
    sign = "+" if after > before else "−"
    return with_label(count(after), f"{sign}{count(abs(after - before))} ({sign}{abs(after - before) / before:.1%})")


def differing(titles: Sequence[str], edges: Sequence[int], total: int) -> str:
    """Return a sentence that says in how many edges other architectures differ from the first.

    Args:
        titles: titles of the architectures.
        edges: for each further architecture, the number of its edges that the first does not have.
        total: number of edges of an architecture.
    """
    words = (f"{plural(number, 'edge')} of {title}" for title, number in zip(titles[1:], edges, strict=True))
    return f"Marked ✱: {', '.join(words)} that {titles[0]} does not have, of {total}."
