"""One architecture in full, or two or three side by side: cells at one scale with differences marked, sizes, sources and runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from app import address
from app.architectures import MOST_SIDE_BY_SIDE, Size, named
from app.components.architecture_gallery import candidates_html, source_words
from app.components.architecture_size import differing, size_table
from app.components.downloads import download_buttons
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.components.states import page_link, section
from app.downloads import File
from app.downloads import named as file_stem
from app.drafts import edge_of
from app.drawing.cell_graph import Pick, cells_html, changes_between, drawing, legend, operations_of, widest_of
from app.formats import count, dataset_title, escape, interval, moment, percent
from app.theme import KIND_TITLES, cell_title
from engine.architecture.genotype import Genotype
from engine.drawing.cell import cell_svg
from engine.drawing.operations import in_order
from engine.drawing.printing import printable, svg_bytes
from engine.report.architectures import Architecture, Use

MOST_RUNS = 50


def choose_shown(known: Mapping[str, Architecture]) -> list[Architecture]:
    """Show the link to the gallery and the selector of architectures. Return the architectures that the page's address names."""
    shown = named(known, address.several("show"))[:MOST_SIDE_BY_SIDE]
    left, right = st.columns([1, 5], vertical_alignment="bottom")
    left.button("All architectures", key="architectures.back", icon=":material/arrow_back:",
                on_click=lambda: address.choose(show="", swap="", part="", edge=""))
    st.session_state["architectures.show"] = [one.hash for one in shown]
    right.multiselect("Shown side by side", list(known), format_func=lambda one: f"{known[one].title} · {one}",
                      key="architectures.show", max_selections=MOST_SIDE_BY_SIDE,
                      on_change=lambda: address.choose(show=st.session_state["architectures.show"], swap="", part="", edge=""))
    return shown


def cells(shown: Sequence[Architecture]) -> Pick | None:
    """Draw the cells of the architectures at one scale, and mark the edges that the first architecture does not have.

    Returns:
        What the reader has clicked. The name of a cell is the hash of its architecture, a dot, and its kind.
    """
    first, genotypes = shown[0].genotype, [one.genotype for one in shown]
    widest = widest_of(genotypes)
    changes = [changes_between(first, genotype) for genotype in genotypes]
    picked = None
    with st.container(horizontal=True, gap="large", key="rp-side"):
        for one, changed in zip(shown, changes, strict=True):
            with st.container(key=f"rp-side-{one.hash}"):
                _title(one)
                edge = edge_of(st.query_params.get("edge", ""), one.genotype) if one is shown[0] else None
                html = cells_html(one.genotype, changed, widest=widest, pick=one.hash, picked=edge)
                picked = drawing(html, key=f"architecture_cells_{len(shown)}_{one.hash}") or picked
                download_buttons(files_of(one.genotype, one.title), key=f"architecture.{one.hash}")
    legend(operations_of(genotypes), key="architecture_legend")
    if len(shown) > 1:
        edges = [sum(map(len, changed.values())) for changed in changes[1:]]
        total = sum(len(cell.edges) for _, cell in first.cells)
        others = [genotype.kinds == first.kinds for genotype in genotypes[1:]]
        st.caption(differing([one.title for one in shown], edges, total) + (
            "" if all(others) else " Cells of kinds that it does not have are not marked."))
    return picked


def _title(one: Architecture) -> None:
    others = f" · also {', '.join(one.names[1:])}" if one.published and len(one.names) > 1 else ""
    notes = "".join(f'<p class="rp-note"><b>{escape(entry.name)}</b>: {escape(entry.note)}</p>' for entry in one.published)
    if one.published:
        sources = "".join(f"<p>{escape(entry.name)}: {escape(entry.source)}</p>" for entry in one.published)
        notes += f'<details class="rp-note"><summary>Where it was published</summary>{sources}</details>'
    st.html(f'<div class="rp-row"><h2 class="rp-section">{escape(one.title)}</h2><code>{one.hash}</code></div>'
            f'<p class="rp-note">{escape(source_words(one))}{escape(others)}</p>{candidates_html(one)}{notes}')


def files_of(genotype: Genotype, title: str) -> list[File]:
    """Return the genotype as JSON and each of its cells as SVG, for download."""
    def content() -> bytes:
        return json.dumps(genotype.to_dict(), indent=1).encode()

    stem = file_stem(title)
    pictures = [File(f"{cell_title(kind)} (SVG)", f"{stem}-{kind}.svg", "image/svg+xml", partial(picture, genotype, kind))
                for kind in in_order(genotype.kinds)]
    return [File("Genotype (JSON)", f"{stem}.json", "application/json", content), *pictures]


def picture(genotype: Genotype, kind: str) -> bytes:
    """Return one cell as the content of an SVG file that needs no style sheet."""
    return svg_bytes(printable(cell_svg(genotype.cell(kind), title=cell_title(kind))))


def sizes(shown: Sequence[Architecture], size: Size) -> None:
    """Show the sizes of the architectures.

    Raises:
        ConfigError: no network can have this width and depth.
    """
    section("Size")
    size_table({one.title: one.genotype for one in shown}, size)


def runs(shown: Sequence[Architecture]) -> None:
    """Show the runs that found, trained or attacked the architectures, with the results on the test split."""
    section("Runs", "that found, trained or attacked it" if len(shown) == 1 else "that found, trained or attacked them")
    rows = [(one.title, use) for one in shown for use in one.uses]
    for one in shown:
        if one.candidate:
            page_link("views/run.py", f"Measured as {one.title} of this search", id=one.candidate[0], tab="candidates")
    if not rows:
        st.caption("No run has found it as its result, or trained it yet.")
        return
    st.html(html_table(RUN_COLUMNS, rows[:MOST_RUNS], label="Runs of architectures", note=(
        "Accuracies are those on the test split, with 95 % Wilson intervals. Compare them only under equal protocols.")
        + (f" The newest {MOST_RUNS} of {len(rows)} runs." if len(rows) > MOST_RUNS else "")))


def _accuracy(value: tuple[float, float, float, int] | None) -> Markup | str:
    return "·" if value is None else with_label(percent(value[0]), f"{interval(value[1], value[2])}, {value[3]:,} images")


def _data(name: str, value: tuple[float, float, float, int] | None) -> dict[str, object]:
    parts = value or (None, None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_images"), parts, strict=True))


def _built(use: Use) -> str:
    return "·" if use.channels is None else f"{use.channels} channels, {use.layers} cells, {count(use.parameters)} parameters"


RUN_COLUMNS: tuple[StaticColumn[tuple[str, Use]], ...] = (
    StaticColumn("Run", lambda row: Markup(f'<a href="run?id={escape(row[1].run)}" target="_self">{escape(row[1].run)}</a>'),
                 names_row=True),
    StaticColumn("Architecture", lambda row: row[0]),
    StaticColumn("Kind", lambda row: KIND_TITLES.get(row[1].kind, row[1].kind)),
    StaticColumn("Status", lambda row: f"{row[1].status}, imported" if row[1].imported else row[1].status),
    StaticColumn("Dataset", lambda row: dataset_title(row[1].dataset)),
    StaticColumn("Network", lambda row: _built(row[1]), data=lambda row: {
        "channels": row[1].channels, "layers": row[1].layers, "parameters": row[1].parameters, "macs": row[1].macs}),
    StaticColumn("Natural", lambda row: _accuracy(row[1].natural), right=True, data=lambda row: _data("natural", row[1].natural)),
    StaticColumn("Worst case", lambda row: _accuracy(row[1].adversarial), right=True,
                 data=lambda row: _data("worst_case", row[1].adversarial)),
    StaticColumn("Protocol", lambda row: row[1].protocol or "·", look="rp-label"),
    StaticColumn("Launched", lambda row: moment(row[1].created), data=lambda row: {"created_unix_s": row[1].created}),
)
