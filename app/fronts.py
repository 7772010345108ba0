"""The networks of a robustness table with the measures that the reader has chosen, and their position relative to the front.

The result is cached for the pages until the outcomes of an attack run change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app import evaluations, session
from engine.attack.catalogue import NATURAL, WORST
from engine.report.dominance import Candidate, Outcomes, Standing, standings
from engine.report.pareto import Measure, Value, measures_of, on_front, value_of
from engine.report.robustness import NetworkRow, RobustnessTable


@dataclass(frozen=True)
class Front:
    """The networks of a protocol that have a value in all objectives.

    Attributes:
        objectives: measures in which networks compete: two or three.
        measures: all measures of the protocol.
        rows: the networks.
        values: {attack run: {name of a measure: value}}, for all known measures of the protocol.
        candidates: {attack run: its network with the outcome on each image}, for comparisons between networks.
        standings: {attack run: place of its network relative to the front}.
        lacking: number of networks of the protocol without a value in some objective.
    """

    objectives: tuple[Measure, ...]
    measures: tuple[Measure, ...]
    rows: tuple[NetworkRow, ...]
    values: Mapping[str, Mapping[str, Value]]
    candidates: Mapping[str, Candidate]
    standings: Mapping[str, Standing]
    lacking: int

    def of(self, standing: Standing) -> list[NetworkRow]:
        """Return the networks with this position relative to the front."""
        return [row for row in self.rows if self.standings[row.run] is standing]


def front_of(table: RobustnessTable, measures: Mapping[str, Measure], objectives: Sequence[Measure]) -> Front:
    """Return the networks of a table with their position relative to the front in the chosen objectives.

    Args:
        table: the robustness table.
        measures: all measures of the table, from `measures_of`.
        objectives: the measures in which networks compete.
    """
    stamps = tuple((row.run, len(row.results), evaluations.changed(evaluations.result_file(row.run, evaluations.OUTCOMES)))
                   for row in table.rows)
    names = tuple(one.name for one in objectives)
    return _front(str(session.runs_root()), table.protocol, names, stamps, table, measures)


def prepare() -> None:
    """Compute and cache what the pages Pareto and Robustness show first, so that their first reader does not wait for it.

    This is all robustness tables and, for the table with the most networks, two things: the front in natural and worst-case
    accuracy, and the letters that networks share if a test finds no difference between them. With 300 attacked networks, this
    takes half a second of CPU time.
    """
    for table in evaluations.tables()[:1]:
        measures = measures_of(table)
        if {NATURAL, WORST} <= measures.keys():
            front_of(table, measures, (measures[NATURAL], measures[WORST]))
            evaluations.letters(table)


@st.cache_resource(show_spinner=False, max_entries=16)
def _front(root: str, protocol: str, names: tuple[str, ...], stamps: tuple[tuple[str, int, int], ...],
           _table: RobustnessTable, _measures: Mapping[str, Measure]) -> Front:
    log, objectives = session.run_log(), tuple(_measures[name] for name in names)
    times = dict(log.search_times().itertuples(index=False))
    values = {row.run: {name: value for name, one in _measures.items() if (value := value_of(row, one, times))}
              for row in _table.rows}
    rows = tuple(row for row in _table.rows if all(name in values[row.run] for name in names))
    runs = [row.run for row in rows]
    outcomes = {one.name: _outcomes(runs, one.name) for one in objectives if one.is_accuracy}
    candidates = {row.run: Candidate(row.run, row.label, {name: one.value for name, one in values[row.run].items()},
                                     {name: known[row.run] for name, known in outcomes.items() if row.run in known})
                  for row in rows}
    ordered = list(candidates.values())
    front = on_front([[one.values[name] for name in names] for one in ordered], [one.larger for one in objectives])
    places = dict(zip(runs, standings(ordered, front, objectives), strict=True))
    return Front(objectives, tuple(_measures.values()), rows, values, candidates, places, len(_table.rows) - len(rows))


def _outcomes(runs: Sequence[str], column: str) -> dict[str, Outcomes]:
    """Return {attack run: whether its network classified each image correctly}. Runs without recorded outcomes are left out.

    Args:
        runs: ids of the attack runs.
        column: "natural", the name of an attack, or "worst-case".
    """
    recorded = session.run_log().outcome_bits(runs, column)
    return {row.run: Outcomes(row.images, len(row.bits), int(row.bits or "0", 2)) for row in recorded.itertuples()}
