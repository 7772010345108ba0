"""Columns, symbols and rows of attacks follow from the protocol and the declarations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from app.charts.robustness import intervals_figure, looks
from app.components.attack_table import attack_table_html
from engine.attack.badge import badge
from engine.attack.catalogue import ATTACKS
from engine.attack.statistics import wilson
from engine.report.robustness import Measurement, NetworkRow, ResultColumn
from tests import sample_runs
from tests.app.pages import component_data, open_page, table_rows

RUN = "20261118-0940-attack-digits-7f50"


def network(label: str, **correct: int) -> NetworkRow:
    """Return a network with these numbers of correct images of 100, by name of the column."""
    results = {name.replace("_", "-"): Measurement(each / 100, *wilson(each, 100), each, 100) for name, each in correct.items()}
    return NetworkRow(RUN, label, label, "w", "quick", "", None, None, 1, 1, None, "", results, badge(()), True, 0, 0.0)


def column(name: str) -> ResultColumn:
    return ResultColumn(name, ATTACKS[name].header if name in ATTACKS else name.capitalize(), "", 100)


def test_an_attack_beyond_the_standard_ones_has_a_column_where_it_was_measured(empty: Path) -> None:
    events = sample_runs.EventsFile(sample_runs.write_run_json(empty, RUN, "attack", created=sample_runs.START))
    sample_runs.write_network(events)
    for attack, title, correct in (("natural", "Natural", 347), ("fgsm", "FGSM", 240), ("pgd-50", "PGD-50", 207)):
        sample_runs.write_attack(events, attack, title, 360, correct)
    page = open_page("robustness")
    assert not page.exception
    (table,) = component_data(page, "rampart_table")
    assert [one["label"] for one in table["columns"]][2:5] == ["Natural\n360 images", "FGSM\n360 images", "PGD-50\n360 images"]
    assert table_rows(page)[RUN]["pgd-50"].startswith("57.5 %")


def test_measures_of_a_chart_share_the_height_of_a_row() -> None:
    columns = [column(name) for name in ("natural", "pgd-100", "fgsm", "worst-case")]
    figure = go.Figure(intervals_figure(columns, [network("A", natural=90, pgd_100=50, worst_case=40)]))
    assert [trace.name for trace in figure.data] == ["Natural", "PGD-100", "Worst-case"]
    assert [trace.y[0] for trace in figure.data] == pytest.approx([-0.24, 0, 0.24])


def test_whiskers_are_the_intervals() -> None:
    (trace,) = go.Figure(intervals_figure([column("natural")], [network("A", natural=90)])).data
    low, high = wilson(90, 100)
    assert trace.error_x.array[0] == pytest.approx(100 * high - 90)
    assert trace.error_x.arrayminus[0] == pytest.approx(90 - 100 * low)


def test_a_long_name_leaves_the_intervals_their_room() -> None:
    row = network("DARTS_V2, accurate as robust, MACs as ARNAS@64x20 (+0.3 %)", natural=90)
    (label,) = go.Figure(intervals_figure([column("natural")], [row])).layout.yaxis.ticktext
    assert label.split("<br>") == ["DARTS_V2, accurate as", "robust, MACs as", "ARNAS@64x20 (+0.3 %)"]


def test_every_column_looks_different_in_a_chart() -> None:
    columns = [column(name) for name in ("natural", *(name for name, _ in ATTACKS.items()), "pgd-7", "worst-case")]
    assert len(set(looks(columns).values())) == len(columns)


def test_the_results_of_several_attacks_are_in_bold() -> None:
    rows = pd.DataFrame({"attack": ["natural", "pgd-100", "autoattack", "worst-case"], "title": list("abcd"), "part_of": "",
                         "epsilon": 0.1, "images": 10, "accuracy": 0.5, "low": 0.4, "high": 0.6, "fingerprint": "x"})
    lines = attack_table_html(rows).split("<tbody>")[1].split("<tr")[1:]
    assert ['class="rp-strong"' in line.split(">")[0] for line in lines] == [True, False, True, True]
