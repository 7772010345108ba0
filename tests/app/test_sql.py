"""The SQL page: examples fill the editor and run, the address keeps the query, and refusals are sentences."""

from __future__ import annotations

import io

import pyarrow.parquet as pq

from app.sql import console
from engine.log.sql_examples import EXAMPLES
from tests.app.conftest import Samples
from tests.app.pages import open_page, text_of


def test_an_example_fills_the_editor_runs_and_stays_in_the_address(samples: Samples) -> None:
    page = open_page("sql")
    assert not page.exception and "No query yet" in text_of(page)
    page.button(key="sql.example.Slowest runs").click().run()
    assert page.text_area(key="sql.text").value == EXAMPLES["Slowest runs"]
    assert EXAMPLES["Slowest runs"] in page.query_params["sql"]
    frame = page.dataframe[0].value
    assert samples.ids["search"] in set(frame["run"]) and "rows in" in text_of(page)


def test_a_query_in_the_address_runs_and_is_edited(samples: Samples) -> None:
    page = open_page("sql", sql="select count(*) as n from folder where kind = 'attack'", table="attack")
    assert page.dataframe[0].value["n"].tolist() == [1] and "1 row in" in text_of(page)
    assert "Accuracy" in text_of(page) or "accuracy of the network under one attack" in text_of(page)
    page.text_area(key="sql.text").set_value("drop table folder")
    page.button(key="sql.run").click().run()
    assert not page.exception and not page.dataframe
    assert "got DROP; the tables can only be read." in text_of(page)
    answer = console().ask("select run from folder order by run")
    assert pq.read_table(io.BytesIO(answer.parquet)).equals(answer.table) and answer.table.num_rows >= 7
