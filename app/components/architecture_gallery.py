"""The gallery of architectures: a card for each, with search, filter and order. The page's address holds the reader's choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from app import address
from app.architectures import MOST_SIDE_BY_SIDE, Size, numbers, pasted
from app.components.architecture_size import size_words
from app.components.source import EXAMPLE
from app.components.states import IMPORT_PAGE, page_link, problem
from app.drawing.cell_graph import drawing, sketches_html
from app.formats import dataset_title, escape, interval, moment, percent, plural
from engine.errors import GenotypeError
from engine.report.architectures import Architecture, Use

COLUMNS, FIRST = 3, 12  # cards in a row, and cards until the reader asks for more
SOURCES = {"": "All", "found": "Found", "imported": "Imported", "published": "Published", "attacked": "Attacked"}
ORDERS = {"": "Newest run first", "name": "Name", "parameters": "Fewest parameters", "macs": "Fewest MACs"}
ALL = "all"
LINKS = {"search": "search", "retrain": "retraining", "attack": "attack"}


def gallery(known: Mapping[str, Architecture], size: Size) -> None:
    """Show one card per architecture, below the controls for search, filter and order.

    A click on a card opens its architecture. Architectures whose cards are ticked open side by side.
    """
    ticked = address.several("pick", known)[:MOST_SIDE_BY_SIDE]
    found = ordered([one for one in known.values() if belongs(one, address.chosen("source", SOURCES)) and matches(one)], size)
    _controls(len(found), len(known), ticked)
    shown = found if st.query_params.get("rows") == ALL else found[:FIRST]
    for start in range(0, len(shown), COLUMNS):
        for column, one in zip(st.columns(COLUMNS), shown[start:start + COLUMNS]):
            with column, st.container(border=True, height="stretch", key=f"rp-architecture-{one.hash}"):
                _card(one, size, ticked)
    if not shown:
        st.caption("No architecture matches. Change the words or the filter.")
    if len(shown) < len(found):
        st.button(f"Show all {len(found)}", key="architectures.more", on_click=lambda: address.choose(rows=ALL))
    st.caption("Equal architectures under different names are one card. The order of a node's edges and the numbering of nodes "
               "do not matter.")
    _paste()
    page_link(IMPORT_PAGE, "Import a genotype file, or a log of public code")


def _paste() -> None:
    """Show the field for a genotype as JSON, and open the genotype if it is valid."""
    state = st.session_state
    with st.expander("Look at a genotype of your own", expanded="architectures.refused" in state):
        st.text_area("Genotype as JSON", key="architectures.pasted", placeholder=EXAMPLE, height=120)
        st.button("Open it", key="architectures.paste", on_click=_open_pasted)
        if refused := state.pop("architectures.refused", ""):
            problem(refused, link=None)


def _open_pasted() -> None:
    try:
        own = pasted(str(st.session_state["architectures.pasted"] or ""))
    except GenotypeError as refusal:
        st.session_state["architectures.refused"] = str(refusal)
    else:
        address.choose(show=own.hash, genotype=own.genotype.to_json(), pick="")


def belongs(one: Architecture, source: str) -> bool:
    """Return True if an architecture comes from `source`, a key of `SOURCES`."""
    if source == "published":
        return bool(one.published)
    if source == "attacked":
        return bool(one.attacks)
    return not source or any(use.imported == (source == "imported") for use in one.uses)


def matches(one: Architecture) -> bool:
    """Return True if an architecture matches all search words in the page's address.

    The words are looked up in its names, hashes, datasets, runs and sources.
    """
    text = " ".join([*one.names, one.hash, one.genotype.hash, *(f"{entry.source} {entry.note}" for entry in one.published),
                     *(f"{use.run} {use.title} {use.dataset}" for use in one.uses)]).lower()
    return all(word in text for word in st.query_params.get("find", "").lower().split())


def ordered(found: Sequence[Architecture], size: Size) -> list[Architecture]:
    """Return architectures in the order chosen in the page's address (query parameter `order`)."""
    order = address.chosen("order", ORDERS)
    if order == "name":
        return sorted(found, key=lambda one: one.title.lower())
    return sorted(found, key=lambda one: int(getattr(numbers(one.genotype, size), order))) if order else list(found)


def _controls(found: int, total: int, ticked: Sequence[str]) -> None:
    left, middle, right = st.columns([4, 5, 3], vertical_alignment="bottom")
    st.session_state["architectures.find"] = st.query_params.get("find", "")
    left.text_input("Find", key="architectures.find", placeholder="Name, hash, run, dataset or source",
                    icon=":material/search:", on_change=lambda: address.choose(find=st.session_state["architectures.find"]))
    with middle:
        address.segmented("Source", SOURCES, name="source", key="architectures.source")
    address.selectbox(right, "Order", ORDERS, name="order", key="architectures.order")
    with st.container(horizontal=True, vertical_alignment="center"):
        words = plural(total, "architecture") if found == total else f"{found} of {plural(total, 'architecture')}"
        st.html(f'<p class="rp-note">{words}. Tick two or three to see them side by side.</p>')
        st.button(f"Side by side ({len(ticked)})", key="architectures.side", type="primary", disabled=len(ticked) < 2,
                  on_click=lambda: address.choose(show=ticked, pick=""))


def _card(one: Architecture, size: Size, ticked: Sequence[str]) -> None:
    also = f'<p class="rp-note">also {escape(", ".join(one.names[1:]))}</p>' if one.published and len(one.names) > 1 else ""
    st.html(f'<div class="rp-row"><h2 class="rp-section">{escape(one.title)}</h2><code>{one.hash}</code></div>{also}'
            f'<p class="rp-note">{escape(source_words(one))}</p>')
    drawing(sketches_html(one.genotype), key=f"architecture_sketch_{one.hash}")
    st.html(f'<p>{escape(size_words(numbers(one.genotype, size)))}</p>{_results_html(one)}{candidates_html(one)}')
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Open", key=f"architectures.open.{one.hash}", help=f"Cells, sizes, runs and changes of {one.title}",
                  on_click=lambda: address.choose(show=[one.hash], pick=""))
        key = f"architectures.pick.{one.hash}"
        st.session_state[key] = one.hash in ticked
        st.checkbox("Side by side", key=key, disabled=one.hash not in ticked and len(ticked) >= MOST_SIDE_BY_SIDE,
                    on_change=lambda: address.choose(pick=_toggled(ticked, one.hash)))


def _toggled(ticked: Sequence[str], one: str) -> list[str]:
    return [name for name in ticked if name != one] if one in ticked else [*ticked, one]


def source_words(one: Architecture) -> str:
    """Return where an architecture comes from, in one line."""
    words = [f"published: {one.published[0].source.split(' ')[0]}"] if one.published else []
    if searches := one.searches:
        first = searches[0]
        words.append(f"{'imported' if first.imported else f'found on {dataset_title(first.dataset)}'}, {moment(first.created)}")
        words += [f"{len(searches)} times in all"] if len(searches) > 1 else []
    elif one.candidate:
        words.append(f"measured by {one.candidate[0]}, not its result")
    elif one.uses:
        words.append(f"trained here, {moment(one.created)}")
    return ", ".join(words)


def candidates_html(one: Architecture) -> str:
    """Return, for each search that measured candidates one by one and found an architecture, a link to the other candidates."""
    return "".join(
        f'<p class="rp-note">{"Best" if use.ranked else "First"} of {plural(use.candidates, "candidate")}'
        f'{"" if use.status == "finished" else " so far"}: '
        f'<a href="run?id={escape(use.run)}&amp;tab=candidates" target="_self">see the '
        f'{"other one" if use.candidates == 2 else f"{use.candidates - 1:,} others"}</a></p>'
        for use in one.searches if use.candidates > 1)


def _results_html(one: Architecture) -> str:
    """Return HTML with an architecture's newest result on the test split, or what is still missing, and links to its runs."""
    links = ", ".join(f'<a href="run?id={escape(use.run)}" target="_self">{LINKS.get(use.kind, use.kind)}</a>'
                      for use in one.uses[:4])
    runs = f'<p class="rp-note">Runs: {links}{f" and {len(one.uses) - 4} more" if len(one.uses) > 4 else ""}</p>' if links else ""
    if one.attacks:
        return f'<p>{result_html(one.attacks[0])}</p>{runs}'
    trained = any(use.kind == "retrain" for use in one.uses)
    return f'<p class="rp-note">{"Trained, not attacked yet." if trained else "Not trained here yet."}</p>{runs}'


def result_html(use: Use) -> str:
    """Return the result of an attack run as HTML: both accuracies with intervals and numbers of images, and the protocol."""
    assert use.adversarial is not None
    parts = []
    for name, value in (("natural", use.natural), ("worst case", use.adversarial)):
        if value is not None:
            parts.append(f"{name} <b>{percent(value[0])}</b> ({interval(value[1], value[2])}, {value[3]:,} images)")
    return f'{", ".join(parts)}<br><span class="rp-label">{escape(use.protocol)}</span>'
