"""The menu below charts: every point as CSV and Parquet, with texts and numbers as they are; and the figure's buttons."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.components.export_table import table_frame
from engine.log.training_queries import EVERY
from engine.report.frames import frame_bytes
from engine.report.robustness import robustness_tables
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page


def closed() -> None:
    """Draw one menu."""
    import pandas as pd

    from app.components.export_menu import export_menu

    export_menu("points", lambda: pd.DataFrame({"x": [1]}), key="points", chart="run_trade_off")


def opened() -> None:
    """Draw one menu that is open."""
    import pandas as pd
    import streamlit as st

    from app.components.export_menu import export_menu

    st.session_state["points_export"] = True
    export_menu("points", lambda: pd.DataFrame({"x": [1]}), key="points", chart="run_trade_off")


def test_a_closed_menu_costs_nothing_and_an_open_one_has_four_buttons() -> None:
    assert not AppTest.from_function(closed).run().get("download_button")
    test = AppTest.from_function(opened).run()
    assert not test.exception
    assert [one.proto.label for one in test.get("download_button")] == ["CSV", "Parquet"]
    assert component_data(test, "rampart_save_figure") == [{"chart": "run_trade_off", "name": "points"}]


def test_every_chart_of_a_run_and_of_the_robustness_page_has_its_menu(samples: Samples) -> None:
    for page, query, least in (("run", {"id": samples.ids["search"]}, 4), ("run", {"id": samples.ids["retrain"]}, 1),
                               ("robustness", {}, 1)):
        test = open_page(page, **query)
        assert not test.exception and len(test.get("popover")) >= least


def test_the_data_are_unsampled(samples: Samples) -> None:
    log = session.run_log()
    session.hub().refresh()
    run = samples.ids["search"]
    steps = log.scalars(run)
    raw = sum(line.count('"event":"objectives"') for line in (samples.root / run / "events.jsonl").read_text().splitlines())
    assert raw == log.objectives(run, EVERY)["step"].nunique() == steps[steps["name"] == "objectives/natural/loss"].shape[0] > 10
    frame = table_frame(robustness_tables(log)[0])
    assert {"worst-case_low", "worst-case_high", "worst-case_fingerprint"} < set(frame.columns)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_holds_every_value(form: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["=cmd", "b"], "value": [0.1 + 0.2, None], "list": [[1, 2], None], "n": [3, 4]})
    content = frame_bytes(frame, form)
    if form == "csv":
        head, first, second = csv.reader(io.StringIO(content.decode(), newline=""))
        assert head == ["name", "value", "list", "n"]
        assert first == ["'=cmd", "0.30000000000000004", "[1, 2]", "3"] and second == ["b", "", "", "4"]
    else:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
        assert rows == [{"name": "=cmd", "value": 0.1 + 0.2, "list": "[1, 2]", "n": 3},
                        {"name": "b", "value": None, "list": None, "n": 4}]
