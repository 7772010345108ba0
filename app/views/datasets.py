"""The Datasets page. It lists the datasets, shows the contents of the chosen dataset, and fetches a missing dataset."""

from __future__ import annotations

import streamlit as st

from app import address
from app.components.dataset_content import balance, content
from app.components.dataset_fetch import fetch_panel
from app.components.html_table import Markup, StaticColumn, html_table
from app.components.states import heading
from app.fetching import fetches
from app.formats import EMPTY, count, escape, plural, shown
from app.formats import epsilon as epsilon_text
from engine.data.catalogue import DATASETS
from engine.data.dataset import Dataset
from engine.data.fetching import Presence, presences
from engine.data.splits import split_sizes
from engine.data.summary import Summary


def described(name: str) -> Dataset | None:
    """Return the description of a dataset, or None for an image folder that is not prepared."""
    if name not in DATASETS:
        return None
    return DATASETS[name]


def state_html(one: Presence) -> Markup:
    """Return a chip that says that a dataset is on this machine, or what is needed to get it."""
    if one.present:
        return Markup('<span class="rp-chip rp-tone-good">✓ here</span>')
    running = fetches().get(one.name)
    if running is not None and not running.over:
        return Markup('<span class="rp-chip rp-tone-live">● fetching</span>')
    dataset = described(one.name)
    if dataset is not None and dataset.package is not None:
        return Markup(f'<span class="rp-chip rp-tone-warn">needs {escape(dataset.package.title)}</span>')
    size = sum(source.bytes for source in dataset.sources) if dataset is not None else 0
    words = f"needs a download of {size / 1e6:.0f} MB" if size else "needs to be prepared"
    return Markup(f'<span class="rp-chip rp-tone-muted">{words}</span>')


def name_html(one: Presence) -> Markup:
    """Return the title of a dataset as a link to its details, with its name below."""
    return Markup(f'<a href="datasets?name={escape(one.name)}" target="_self"><b>{escape(one.title)}</b></a>'
                  f'<br><span class="rp-label">{escape(one.name)}</span>')


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return the shape of an image as text, for example "3 x 32 x 32"; a dash if it is unknown."""
    return " x ".join(map(str, shape)) if shape else EMPTY


def overview(listed: list[Presence], chosen: str) -> None:
    """Show a table with one row for each dataset. The row of the dataset `chosen` is marked."""
    columns = (StaticColumn[Presence]("Dataset", name_html, names_row=True), StaticColumn[Presence]("State", state_html),
               StaticColumn[Presence]("Images", lambda one: count(one.images), right=True,
                                      data=lambda one: {"images": one.images}),
               StaticColumn[Presence]("Shape, pixels", lambda one: shape_text(one.image_shape), right=True,
                                      data=lambda one: {"image_shape_pixels": shape_text(one.image_shape)}),
               StaticColumn[Presence]("Classes", lambda one: count(one.classes), right=True,
                                      data=lambda one: {"classes": one.classes}),
               StaticColumn[Presence]("Epsilon", lambda one: epsilon_text(DATASETS[one.name].epsilon)
                                      if one.name in DATASETS else EMPTY, right=True,
                                      data=lambda one: {"epsilon": DATASETS[one.name].epsilon if one.name in DATASETS else None}))
    st.html(html_table(columns, listed, label="Datasets", look="rp-datasets",
                       row_look=lambda one: "rp-chosen" if one.name == chosen else ""))


def facts(dataset: Dataset) -> None:
    """Show the facts about a dataset that are known without its files."""
    sizes = split_sizes(dataset)
    step = "as published, by kind of run" if dataset.step_size is None else f"{shown(dataset.step_size)} in 0..1"
    where = (f"the Python package {dataset.package.title}" if dataset.package else
             ", ".join(source.url for source in dataset.sources) or "an image folder of yours")
    shape = f"{shape_text(dataset.image_shape)} pixels in {dataset.classes} classes"
    rows = [("Images", f"{plural(dataset.images, 'image')} of {shape}"),
            ("Splits", ", ".join(f"{name} {size:,}" for name, size in sizes.items())
             + ("; test is the official test set" if dataset.test_images else "")),
            ("Epsilon", f"{epsilon_text(dataset.epsilon)} (L-infinity radius, pixels in 0..1)"), ("Step size", step),
            ("From", dataset.origin or EMPTY), ("Read from", where),
            ("Licence", dataset.licence or "not recorded; ask the source before you publish images"),
            ("Settings", "from papers that use it" if dataset.published else "chosen for this project")]
    columns = (StaticColumn[tuple[str, str]]("Fact", lambda row: row[0], names_row=True),
               StaticColumn[tuple[str, str]]("Value", lambda row: row[1]))
    st.html(html_table(columns, rows, label=f"Facts about {dataset.title}", look="rp-wrap"))


heading("Datasets", "What runs can train on, what this machine has, and how each dataset is split.")
listed = presences()
chosen = address.chosen("name", [one.name for one in listed], listed[0].name)
overview(listed, chosen)
presence = next(one for one in listed if one.name == chosen)
dataset = described(chosen)
st.html(f'<h2 class="rp-section">{escape(presence.title)}</h2>'
        f'<p class="rp-note">{escape(dataset.description if dataset else presence.advice)}</p>')
left, right = st.columns([3, 2], gap="large")
found: Summary | None = None
with left if dataset is None or presence.present else right:
    if not presence.present:
        fetch_panel(presence)
    elif dataset is not None:
        found = content(dataset)
if dataset is not None:
    with right if presence.present else left:
        facts(dataset)
        if found is not None:
            balance(dataset, found)
