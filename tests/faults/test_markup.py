"""Markup in every text of a run, a study and an address: pages show it as text, as no link, image, icon, colour or formula."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.charts.frame import Figure, figure_json
from app.formats import markdown
from engine.errors import RunLogError
from engine.run.event_kinds import read
from engine.run.events import parse
from tests.app.conftest import runs_folder
from tests.app.pages import MAIN
from tests.faults.markup import MARKUP, RENDERED, rendered
from tests.sample_runs import write_sample_runs
from tests.sample_studies import write_sample_studies

# Texts by which rows are found, so that a changed one would leave pages empty.
KEYS = {"event", "run", "attack", "split", "statistics", "phase", "fingerprint", "against", "other", "hash", "dataset", "mode",
        "names", "primitives", "ranking", "images_hash", "sweep", "level", "genotype"}
QUERIES = ("id", "find", "show", "run", "runs", "network", "protocol", "compare", "cells", "selected", "columns", "rows", "sort",
           "gallery", "name", "source", "sql", "edit", "parent", "from", "where", "genotype", "method", "dataset", "preset",
           "epsilon", "title", "attack", "label", "study", "x", "y", "third", "colour", "then", "kind", "grid.seed", "page")
PAGES = ("launch", "studies", "study", "runs", "queue", "run", "pareto", "compare", "robustness", "datasets", "sql", "imports")


def marked(value: Any, key: str = "") -> Any:
    """Return a JSON value with markup in every text except those of `KEYS`."""
    if isinstance(value, dict):
        return {name: one if name == "genotype" else marked(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [marked(one, key) for one in value]
    return MARKUP if isinstance(value, str) and key not in KEYS else value


def mark_run(folder: Path) -> None:
    """Put markup into every text of a run's files."""
    run = json.loads((folder / "run.json").read_text())
    settings = run["config"] | {MARKUP: MARKUP}
    run |= {"title": MARKUP, "preset": MARKUP, "command": MARKUP, "code": {"version": MARKUP, "diff": MARKUP}, "config": settings}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "marks.json").write_text(json.dumps({"tags": [], "note": MARKUP, "archived": False}))
    (folder / "log.txt").write_text(MARKUP)
    if (folder / "exit.json").exists():
        ended = json.loads((folder / "exit.json").read_text())
        (folder / "exit.json").write_text(json.dumps(ended | {"cause": MARKUP, "last_lines": [MARKUP]}))
    if (folder / "events.jsonl").exists():
        lines = [one for one in (folder / "events.jsonl").read_bytes().splitlines() if one.startswith(b"{")]
        (folder / "events.jsonl").write_text("".join(_marked_line(one) + "\n" for one in lines))


def _marked_line(line: bytes) -> str:
    try:
        changed = json.dumps(marked(parse(line)))
        read(parse(changed.encode()))
        return changed
    except RunLogError:
        return line.decode()


def mark_study(path: Path) -> None:
    """Put markup into the question and the names of the arms of a study."""
    study = json.loads(path.read_text())
    text = json.dumps(study | {"question": MARKUP})
    for arm in study["arms"]:
        text = text.replace(json.dumps(arm["name"]), json.dumps(f"{arm['name']} {MARKUP}"))
    path.write_text(text)


def opened(page: str, query: dict[str, str]) -> AppTest:
    """Open a page whose address has these parameters, whatever their names."""
    test = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return test.switch_page(f"views/{page}.py").run()


def check(page: str, **query: str) -> None:
    """Check that a page shows none of the markup as markup."""
    check_at(page, query)


def check_at(page: str, query: dict[str, str]) -> None:
    test = opened(page, query)
    assert not test.exception, (page, query, [one.message for one in test.exception])
    assert not rendered(test), (page, query, rendered(test)[:5])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runs folder whose runs have markup in every text."""
    for folder in runs_folder(tmp_path / "runs", monkeypatch):
        write_sample_runs(folder)
        for one in folder.glob("2026*"):
            mark_run(one)
        yield folder


def test_pages_of_runs_show_markup_as_text(root: Path) -> None:
    for one in sorted(root.glob("2026*"))[:3]:
        check("run", id=one.name)
    check("robustness", protocol=MARKUP)
    check("launch", parent=MARKUP)


@pytest.mark.slow
def test_every_page_shows_markup_as_text(root: Path) -> None:
    names = sorted(one.name for one in root.glob("2026*"))
    for page in PAGES:
        check_at(page, {})
        check_at(page, dict.fromkeys(QUERIES, MARKUP))
    for name in names:
        check("run", id=name)
    check("compare", runs=",".join(names[:4]))
    check_at("launch", {"from": names[0]})


@pytest.mark.slow
def test_pages_of_studies_show_markup_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in runs_folder(tmp_path / "runs", monkeypatch):
        write_sample_studies(folder)
        for one in folder.glob("2026*"):
            mark_run(one)
        for path in (folder / "studies").glob("*.json"):
            mark_study(path)
            check("study", id=path.stem)
        check("studies")


def test_the_search_for_markup_finds_it() -> None:
    def page() -> None:
        import streamlit

        from tests.faults.markup import MARKUP

        streamlit.markdown(MARKUP)
        streamlit.button(MARKUP)
        streamlit.segmented_control("Cell", [MARKUP])

    test = AppTest.from_function(page).run()
    found = [line.split(":")[0].split(" in ") for line in rendered(test)]
    assert {kind for kind, *_ in found} == set(RENDERED)
    assert {place for _, place in found} == {"Markdown.body", "Button.label", "Option.content"}


def test_escaped_text_reads_as_it_was() -> None:
    assert markdown("epsilon must be in 0..1, got 8: use 8/255.") == "epsilon must be in 0..1, got 8: use 8/255."
    assert markdown(MARKUP).replace("\\\u2060", "").replace("\u2060", "").replace("\\", "") == MARKUP.replace("\\", "")


def test_a_chart_keeps_its_own_tags_only() -> None:
    figure = Figure()
    figure.add_scatter(x=[1], y=[1], name="<b>n</b><br><a href='http://evil.example'>x</a><img src=x>",
                       hovertemplate="%{x}<extra></extra>")
    trace = json.loads(figure_json(figure))["data"][0]
    assert trace["name"] == "<b>n</b><br>&lt;a href='http://evil.example'>x&lt;/a>&lt;img src=x>"
    assert trace["hovertemplate"] == "%{x}<extra></extra>"
