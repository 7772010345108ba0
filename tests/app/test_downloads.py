"""No page draws a chart or table without the menu that exports it, the files hold what is shown, and a failure is a sentence."""

from __future__ import annotations

import ast
import asyncio
import csv
import html
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow.parquet as pq
import pytest
from starlette.applications import Starlette
from streamlit.testing.v1 import AppTest

from app import downloads, session
from app.components.export_table import table_frame
from app.components.html_table import Markup, StaticColumn, exported, plain
from app.downloads import File, file_at
from engine.errors import RunError
from engine.log.training_queries import EVERY
from engine.report.frames import frame_bytes
from engine.report.robustness import robustness_tables
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page

APP = Path(downloads.__file__).parent
MENU = re.compile(r'<details class="rp-export">.*?</details>', re.S)
LINK = re.compile(r'href="(files/[^"]+)" download="([^"]+)"')


def menus(test: AppTest) -> list[str]:
    """Return all export menus of a page."""
    return [menu for element in test.get("html") for menu in MENU.findall(element.proto.body)]


def files_of(test: AppTest) -> dict[str, str]:
    """Return {name: address} of all files that a page offers."""
    found = [(html.unescape(name), html.unescape(address)) for element in test.get("html")
             for address, name in LINK.findall(element.proto.body)]
    assert len(dict(found)) == len(found), "two files of a page have the same name"
    return dict(found)


def made(test: AppTest, ending: str) -> bytes:
    """Return the content of the file of a page whose name ends so."""
    (address,) = [address for name, address in files_of(test).items() if name.endswith(ending)]
    file = file_at(address)
    assert file is not None
    return file.make()


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def assert_exported(test: AppTest, page: str) -> int:
    """Assert that each chart and table of a page has its menu with both files, and return their number."""
    assert not test.exception, (page, test.exception)
    charts = [one["name"] for one in component_data(test, "rampart_live_plot") if '"data":[]' not in one["figure"]]
    bodies = [element.proto.body for element in test.get("html")]
    tables = sum(body.count("<table") for body in bodies)
    assert all(body.count("<table") <= len(MENU.findall(body)) for body in bodies if "<table" in body), page
    interactive = len(component_data(test, "rampart_table")) + len(test.get("arrow_data_frame"))
    found = menus(test)
    drawn = {name for menu in found for name in re.findall(r'data-chart="([^"]+)"', menu)}
    assert set(charts) <= drawn, (page, set(charts) - drawn)
    assert len(found) == len(charts) + tables + interactive, (page, len(found), charts, tables, interactive)
    assert all(".csv" in menu and ".parquet" in menu for menu in found), page
    assert all('data-format="svg"' in menu and 'data-format="png"' in menu for menu in found if "data-chart" in menu)
    return len(found)


def test_every_chart_and_table_of_the_runs_has_its_menu(samples: Samples) -> None:
    runs = [*(samples.ids[role] for role in ("search", "retrain", "attack", "failed")),
            *sample_runs.write_hand_made(samples.root)[-1:], sample_runs.write_random_search(samples.root)]
    pages = [("runs", {}), ("queue", {}), ("pareto", {}), ("robustness", {}), ("datasets", {}), ("imports", {}),
             ("compare", {"runs": ",".join(runs)}),
             ("sql", {"sql": "SELECT id, kind FROM runs"}), ("launch", {"method": "arnas", "preset": "quick"}),
             ("launch", {"from": samples.ids["search"]}), *(("run", {"id": run}) for run in runs)]
    assert sum(assert_exported(open_page(page, **query), f"{page} {query}") for page, query in pages) > 40


def test_every_chart_and_table_of_the_studies_has_its_menu(sample_studies: Samples) -> None:
    pages = [("studies", {}), ("studies", {"new": "own"}), ("study", {"id": sample_studies.ids["finished"]}),
             ("study", {"id": sample_studies.ids["running"]}), ("robustness", {})]
    assert sum(assert_exported(open_page(page, **query), f"{page} {query}") for page, query in pages) > 20


def test_files_of_a_study_hold_what_it_shows(sample_studies: Samples) -> None:
    study = sample_studies.ids["finished"]
    test = open_page("study", id=study)
    results = session.hub().studies.overview(study).results
    by_run = {row["run"]: row for row in rows_of(made(test, f"{study}-networks.csv"))}
    parquet = {row["run"]: row for row in pq.read_table(io.BytesIO(made(test, f"{study}-networks.parquet"))).to_pylist()}
    cells = [cell for arm in results.arms.values() for cell in arm.cells]
    assert len(cells) == len(by_run) == len(parquet) > 3
    for cell in cells:
        for row in (by_run[cell.run], parquet[cell.run]):
            assert float(row["endpoint"]) == cell.endpoint.accuracy and float(row["endpoint_low"]) == cell.endpoint.low
            assert int(row["endpoint_images"]) == cell.endpoint.images and row["protocol"] == results.protocol != ""
            assert int(row["macs"]) == cell.macs
    (arm, *_) = results.arms.values()
    (means,) = [row for row in rows_of(made(test, f"{study}-arms.csv")) if row["Arm"] == arm.name]
    assert float(means["macs"]) == arm.mean("macs") and means["endpoint_interval_from"]


def test_files_of_a_protocol_hold_what_it_shows(samples: Samples) -> None:
    (table, *_) = robustness_tables(session.run_log())
    test = open_page("robustness")
    (row, *_) = rows_of(made(test, f"robustness-{table.dataset}-{table.protocol}.csv"))
    measured = table.rows[0].results["worst-case"]
    assert float(row["worst-case_accuracy"]) == measured.accuracy and row["worst-case_fingerprint"] == measured.fingerprint
    assert row["protocol"] == table.protocol
    front = pq.read_table(io.BytesIO(made(open_page("pareto"), f"{table.protocol}.parquet"))).to_pylist()
    assert [one["worst-case_high"] for one in front if one["run"] == table.rows[0].run] == [measured.high]


def test_the_list_of_runs_is_exported_unshortened(samples: Samples) -> None:
    rows = pq.read_table(io.BytesIO(made(open_page("runs"), "runs.parquet"))).to_pylist()
    known = session.run_log().runs().set_index("id")
    assert {row["id"] for row in rows} == set(known.index[~known["archived"]])
    accuracies = {row["id"]: row["adversarial_accuracy"] for row in rows if row["adversarial_accuracy"] is not None}
    assert accuracies == known["adversarial_accuracy"].dropna().to_dict() and len(accuracies) > 2


def test_the_data_of_a_chart_are_unsampled(samples: Samples) -> None:
    run = samples.ids["search"]
    rows = rows_of(made(open_page("run", id=run), "run-trade-off.csv"))
    raw = sum(line.count('"event":"objectives"') for line in (samples.root / run / "events.jsonl").read_text().splitlines())
    assert raw == sum(row["name"] == "objectives/natural/loss" for row in rows) > 10
    assert raw == session.run_log().objectives(run, EVERY)["step"].nunique()
    assert {"worst-case_low", "worst-case_fingerprint"} < set(table_frame(robustness_tables(session.run_log())[0]).columns)


def test_numbers_have_their_values_and_texts_lose_their_tags() -> None:
    columns = [StaticColumn("Name", lambda row: Markup('<b>a</b><br><span class="rp-label">b &lt;</span>')),
               StaticColumn("Time", lambda row: "1 s", right=True, data=lambda row: {"time_s": row})]
    frame = exported(columns, [1.23456789], None, {"protocol": "p"})()
    assert frame.to_dict("records") == [{"Name": "a, b <", "time_s": 1.23456789, "protocol": "p"}]
    assert plain(Markup('<span aria-hidden="true">✓</span>here')) == "here"


def test_every_column_of_numbers_exports_its_values() -> None:
    """A column that is aligned to the right shows numbers, rounded. Its file must hold them unrounded."""
    lacking = []
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "StaticColumn" in ast.unparse(node.func):
                names = {one.arg for one in node.keywords}
                lacking += [f"{path.name}:{node.lineno}"] if "right" in names and "data" not in names else []
    assert not lacking


def test_tables_and_charts_are_drawn_by_their_components_only() -> None:
    sources = {path.relative_to(APP).as_posix(): path.read_text(encoding="utf-8") for path in APP.rglob("*.py")}
    assert {name for name, text in sources.items() if "<table" in text} == {
        "components/html_table.py", "components/study_matrix.py"}
    assert {name for name, text in sources.items() if "st.dataframe" in text} == {"views/sql.py"}
    assert not [name for name, text in sources.items() if re.search(r"plotly_chart\(|st\.table\(", text)]


def ask(address: str) -> tuple[int, str, str]:
    """Return status, text and file name of the server's answer to a click."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": f"/{unquote(address)}", "raw_path": address.encode(), "headers": [],
             "query_string": b"", "scheme": "http", "server": ("localhost", 80), "root_path": "", "http_version": "1.1"}
    asyncio.run(Starlette(routes=downloads.ROUTES)(scope, receive, send))
    name = dict(sent[0]["headers"]).get(b"content-disposition", b"")
    return sent[0]["status"], b"".join(one["body"] for one in sent[1:]).decode(), name.decode()


def answered(file: File, key: str) -> tuple[int, str, str]:
    """Register a file, and return the answer to a click on it."""
    address = downloads.address_of(file, key)
    assert address == downloads.address_of(file, key), "the address stays while a page is redrawn"
    return ask(address)


def test_a_click_gets_the_file_or_the_sentence_that_says_why_not() -> None:
    def refuse() -> bytes:
        raise RunError("The checkpoint is missing; retrain the network.")

    assert answered(File("CSV", "a b.csv", "text/csv", lambda: b"x\n1\n"), "k") == (
        200, "x\n1\n", "attachment; filename*=UTF-8''a%20b.csv")
    status, words, _ = answered(File("CSV", "weights.pt", "", refuse), "k")
    assert status == 422 and words == "weights.pt could not be made. The checkpoint is missing; retrain the network."
    status, words, _ = ask("files/unknown/a.csv")
    assert status == 410 and "Reload the page" in words


def test_the_oldest_files_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST", 3)
    addresses = [downloads.address_of(File("CSV", f"{number}.csv", "", bytes), "k") for number in range(5)]
    assert [file_at(one) is not None for one in addresses] == [False, False, True, True, True]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_holds_every_value(form: str) -> None:
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
