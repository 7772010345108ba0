"""Columns, symbols and rows of attacks follow from their declarations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.charts.robustness import MEASURES, intervals_figure
from app.components.attack_table import attack_table_html
from engine.attack.catalogue import ATTACKS
from tests import sample_runs
from tests.app.pages import component_data, open_page, table_rows

RUN = "20261118-0940-attack-digits-7f50"


def test_an_attack_beyond_the_standard_ones_has_a_column_where_it_was_measured(empty: Path) -> None:
    folder = sample_runs.write_run_json(empty, RUN, "attack", created=sample_runs.START)
    events = sample_runs.EventsFile(folder, t=sample_runs.START)
    sample_runs.write_network(events)
    for attack, title, correct in (("natural", "Natural", 347), ("fgsm", "FGSM", 240), ("pgd-100", "PGD-100", 207)):
        sample_runs.write_attack(events, attack, title, 360, correct)
    page = open_page("robustness")
    assert not page.exception
    (table,) = component_data(page, "rampart_table")
    assert [column["label"] for column in table["columns"]][1:6] == [
        "Natural\n360 images", "FGSM\n360 images", "PGD-20", "PGD-100\n360 images", "AutoAttack worst case"]
    assert table_rows(page)[RUN]["pgd100"].startswith("57.5 %")


def test_measures_of_a_chart_share_the_height_of_a_row() -> None:
    names = ("natural", "pgd100", "autoattack")
    row = {f"{name}_{end}": .5 for name in names for end in ("accuracy", "low", "high", "images")}
    figure = intervals_figure(pd.DataFrame([{"label": "A", **row}]))
    assert [trace.name for trace in figure.data] == ["natural", "PGD-100", "AutoAttack worst case"]
    assert [trace.y[0] for trace in figure.data] == pytest.approx([-0.24, 0, 0.24])


def test_every_attack_looks_different_in_a_chart() -> None:
    assert [*MEASURES] == ["natural", *(attack.prefix for _, attack in ATTACKS.items())]
    assert len({looks[1:] for looks in MEASURES.values()}) == len(MEASURES)


def test_the_results_of_several_attacks_are_in_bold() -> None:
    rows = pd.DataFrame({"attack": ["natural", "pgd-100", "autoattack", "worst-case"], "title": list("abcd"), "part_of": "",
                         "epsilon": 0.1, "images": 10, "accuracy": 0.5, "low": 0.4, "high": 0.6, "fingerprint": "x"})
    lines = attack_table_html(rows).split("<tbody>")[1].split("<tr")[1:]
    assert ['class="rp-strong"' in line.split(">")[0] for line in lines] == [True, False, True, True]
