"""The attacked networks of the Pareto page: controls, plot, table, and the comparison of the selected networks.

The page's address holds all choices. A click on a point or on a row of the table selects a network, and a second click removes it
from the selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from app import address
from app.charts.data import front_frame
from app.charts.pareto import Mark, View, glyph_of, networks_figure, value_text
from app.components.live_plot import live_plot
from app.components.network_detail import pictures
from app.components.network_filter import visible
from app.components.plot_picks import picked
from app.components.states import RUN_PAGE, page_link, section
from app.components.table import UNSORTED, CellText, Column, Row, orders_of, table
from app.formats import EMPTY, capitalised, escape, interval, percent, plural, unequal_sizes
from app.fronts import Front, front_of
from app.theme import BADGES
from engine.attack.catalogue import NATURAL, WORST
from engine.report.dominance import Standing, verdicts
from engine.report.latency import common_place
from engine.report.pareto import Measure, Value, measures_of
from engine.report.robustness import NetworkRow, RobustnessTable

NONE = ""
PLOT_HEIGHT = 520
FIRST_ROWS = 12
MOST_CELLS = 3
MOST_COMPARED = 8  # selected networks that are compared in pairs
ALL, BEST = "all", "front"
GLYPHS = ", ".join(f"{glyph} {word.lower()}" for _, glyph, word in BADGES.values())
STANDING_HELP = ("On the front: no other network has better or equal measured values in all objectives. Dominated: a network on "
                 "the front is better in every objective, and for accuracies the exact McNemar test on the same images says so "
                 "at 5 % (Holm). Otherwise the network is not told apart from the front.")


@dataclass(frozen=True)
class Choices:
    """The reader's choices: the view of the plot, and whether only the front is shown."""

    view: View
    only_front: bool

    @property
    def objectives(self) -> tuple[Measure, ...]:
        """The measures on the axes of the plot, and the third objective, if any. They define the front. Each occurs once."""
        chosen = (self.view.x, self.view.y, self.view.third)
        return tuple(dict.fromkeys(one for one in chosen if one is not None))


def controls(measures: Mapping[str, Measure]) -> Choices:
    """Show the controls of the plot and return the choices, which the page's address holds."""
    titles = {name: one.title for name, one in measures.items()}
    first, second, third, size, colour = st.columns([1.3, 1.3, 1.3, 1, 1.2])
    x = address.selectbox(first, "Horizontal axis", _first(titles, NATURAL), name="x", key="pareto.x")
    y = address.selectbox(second, "Vertical axis", _first(titles, WORST), name="y", key="pareto.y")
    others = {name: title for name, title in titles.items() if name not in (x, y)}
    z = address.selectbox(third, "Third objective", {NONE: "none", **others}, name="third", key="pareto.third",
                          help="A third measure in which networks compete. The colour of a marker shows it, and the front is the "
                               "front in all three.")
    sizes = {NONE: "all the same", **{name: title for name, title in titles.items() if not measures[name].is_accuracy}}
    area = address.selectbox(size, "Marker size", sizes, name="size", key="pareto.size")
    colours = {z: titles[z]} if z else {"standing": "front or not", "title": "method and settings", **titles}
    shown = address.selectbox(colour, "Colour", colours, name="colour", key="pareto.colour")
    scope = address.segmented("Networks", {ALL: "All networks", BEST: "Only the front"}, name="show", key="pareto.show",
                              label_visibility="collapsed")
    view = View(measures[x], measures[y], measures.get(z), "standing" if z else shown, area)
    return Choices(view, scope == BEST)


def _first(titles: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: titles[name], **titles} if name in titles else dict(titles)


def networks(chosen: RobustnessTable) -> Front:
    """Show the networks of a protocol in a plot and a table. Return them with the front that they form."""
    measures = measures_of(chosen)
    choices = controls(measures)
    front = front_of(chosen, measures, choices.objectives)
    if not front.rows:
        st.caption(f"No network has a value for {' and '.join(one.phrase for one in choices.objectives)} yet.")
        return front
    rows = front.of(Standing.FRONT) if choices.only_front else list(front.rows)
    selected = address.several("selected", [row.run for row in front.rows])
    key = f"pareto_networks_{chosen.protocol}_{'_'.join(one.name for one in choices.objectives)}"
    live_plot(networks_figure(marks_of(rows, front, selected), choices.view, measures), height=PLOT_HEIGHT, key=key,
              label=f"{choices.view.y.title} over {choices.view.x.phrase} of attacked networks",
              data=partial(front_frame, front, chosen), file=f"pareto-{chosen.dataset}-{chosen.protocol}")
    clicked = picked(key)
    st.caption(" ".join(filter(None, (caption(front, rows, choices), latency_words(chosen)))))
    clicked = networks_table(rows, front, selected, chosen) or clicked
    if clicked:
        address.choose(protocol=chosen.protocol, selected=[run for run in selected if run != clicked]
                       if clicked in selected else [*selected, clicked])
        st.rerun(scope="fragment")
    selection([row for run in selected for row in front.rows if row.run == run], front)
    return front


def marks_of(rows: Sequence[NetworkRow], front: Front, selected: Sequence[str]) -> list[Mark]:
    """Return the points of the plot, one for each network in `rows`."""
    return [Mark(row.run, row.label, row.title, row.badge.colour, "\n".join(row.badge.reasons), front.values[row.run],
                 front.standings[row.run], row.run in selected) for row in rows]


def caption(front: Front, rows: Sequence[NetworkRow], choices: Choices) -> str:
    """Return the explanation below the plot of networks."""
    best, dominated = len(front.of(Standing.FRONT)), len(front.of(Standing.DOMINATED))
    between = len(front.rows) - best - dominated
    parts = [f"{plural(len(front.rows), 'attacked network')}: {best} on the front, {between} not told apart from it, "
             f"{dominated} dominated." if len(front.rows) > 1 else "Attack a second network to compare."]
    if front.lacking:
        parts.append(f"{plural(front.lacking, 'network')} without {' or '.join(one.phrase for one in front.objectives)}.")
    if any(one.is_accuracy for one in front.objectives):
        parts.append("Hover over a network for its 95 % Wilson intervals; selected networks keep them."
                     + (" The band runs from the front of their lower ends to that of their upper ends."
                        if choices.view.third is None else ""))
    parts.append("Networks with equal values stand side by side." if _some_coincide(rows, front, choices.view) else "")
    parts.append(f"Signs are reliability badges ({GLYPHS}). A point is a checkpoint, not its method.")
    parts.append(unequal_sizes(pd.DataFrame([{"parameters": row.parameters, "macs": row.macs} for row in rows], dtype="float")))
    return " ".join(filter(None, parts))


def latency_words(table: RobustnessTable) -> str:
    """Return sentences about the latencies of a table: the device on which they were measured, and which networks have none.

    They count the networks that were measured on another device, and the networks of older runs, which have no latency.
    """
    place = common_place(row.latencies for row in table.rows)
    unknown = sum(not row.latencies for row in table.rows)
    elsewhere = sum(bool(row.latencies) and row.latencies[min(row.latencies)].place != place for row in table.rows)
    parts = [f"Latency: median computing time of repeated passes in evaluation mode on {place}." if place else ""]
    if elsewhere:
        parts.append(f"{plural(elsewhere, 'network')} measured on another device {'is' if elsewhere == 1 else 'are'} left out "
                     "of it.")
    if unknown:
        parts.append(f"{plural(unknown, 'network')} of older runs {'has' if unknown == 1 else 'have'} no latency; attack "
                     f"{'it' if unknown == 1 else 'them'} again to measure it.")
    return " ".join(filter(None, parts))


def _some_coincide(rows: Sequence[NetworkRow], front: Front, view: View) -> bool:
    places = {tuple(front.values[row.run][one.name].value for one in (view.x, view.y)) for row in rows}
    return len(places) < len(rows)


def networks_table(rows: Sequence[NetworkRow], front: Front, selected: Sequence[str], chosen: RobustnessTable) -> str | None:
    """Show the table of networks, and return the run of the network that the reader has clicked, or None.

    The selected networks and the front come first.
    """
    place = {Standing.FRONT: 1, Standing.OPEN: 2, Standing.DOMINATED: 3}
    ordered = visible(sorted(rows, key=lambda row: 0 if row.run in selected else place[front.standings[row.run]]),
                      first=FIRST_ROWS, keep=selected, key="pareto")
    shown = dict.fromkeys([*front.objectives, *(one for one in measures_shown(front) if one not in front.objectives)])
    columns = [Column("network", "Network"), Column("standing", "Standing", help=STANDING_HELP),
               *(Column(one.name, one.title, "right") for one in shown)]
    action = table(columns, [row_of(row, front, list(shown), row.run in selected) for row in ordered],
                   key=f"pareto_table_{'_'.join(one.name for one in shown)}", label="Attacked networks", selected=None,
                   sort=address.chosen("sort", orders_of(columns), UNSORTED), data=partial(front_frame, front, chosen),
                   file=f"pareto-{chosen.dataset}-{chosen.protocol}-networks")
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    if action.sort:
        address.choose(sort=action.sort)
        st.rerun(scope="fragment")
    return action.picked or action.clicked


def measures_shown(front: Front) -> list[Measure]:
    """Return the measures, other than accuracies, that the table shows besides the objectives, if any network has them."""
    known = {name for values in front.values.values() for name in values}
    return [one for one in front.measures if not one.is_accuracy and one.name in known]


def row_of(row: NetworkRow, front: Front, shown: Sequence[Measure], is_selected: bool) -> Row:
    """Return the table row of a network. `shown` are the measures that have a column."""
    standing, values = front.standings[row.run], front.values[row.run]
    tone = {Standing.FRONT: "good", Standing.OPEN: "", Standing.DOMINATED: "muted"}[standing]
    cells = {"network": CellText(f"{row.label} {glyph_of(row.badge.colour)}", sub=row.run.rsplit("-", 1)[-1],
                                 href=f"run?id={row.run}", hint=row.run),
             "standing": CellText(capitalised(standing.value), tone=tone),
             **{one.name: value_cell(one, values.get(one.name)) for one in shown}}
    return Row(row.run, cells, name=row.label, picked=is_selected)


def value_cell(measure: Measure, value: Value | None) -> CellText:
    """Return the table cell of a value, with interval and number of images of an accuracy on a second line."""
    if value is None:
        return CellText(EMPTY, sort=-1e300 if measure.larger else 1e300, muted=True)
    if not measure.is_accuracy:
        return CellText(value_text(measure, value), sort=value.value)
    return CellText(percent(value.value), sub=f"{interval(value.low, value.high)}, {plural(measure.images, 'image')}",
                    sort=value.value)


def selection(rows: Sequence[NetworkRow], front: Front) -> None:
    """Show the comparison of the selected networks and their cells."""
    section("Selected networks", "click points or tick rows to select")
    if not rows:
        st.caption("No network is selected.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<p class="rp-note">{escape(", ".join(row.label for row in rows))}</p>')
        page_link("views/compare.py", "Compare these runs", runs=",".join(row.run for row in rows))
        if st.button("Clear the selection", key="pareto.clear"):
            address.choose(selected="")
            st.rerun(scope="fragment")
    compared = [front.candidates[row.run] for row in rows[:MOST_COMPARED]]
    if len(compared) > 1:
        sentences = [one.sentence() for one in verdicts(compared, front.objectives)]
        st.html(f'<ul class="rp-sentences">{"".join(f"<li>{escape(one)}.</li>" for one in sentences)}</ul>')
        st.caption("Accuracies: exact McNemar test on the same images, Holm-adjusted over these pairs and accuracies, level 5 %. "
                   "Sizes and times are compared as they are."
                   + (f" The first {MOST_COMPARED} networks are compared." if len(rows) > MOST_COMPARED else ""))
    pictures(rows, most=MOST_CELLS, key="pareto_cells", noun="selected network")
