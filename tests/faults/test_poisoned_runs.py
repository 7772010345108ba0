"""Runs whose files hold what no file should hold: they are listed as failed with a sentence, and no other run notices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app import session
from engine import requests
from engine.cli import main
from engine.data.folders import scan
from engine.errors import DataError, RampartError
from engine.log import RunLog
from engine.run.folder import RunFolder, run_ids
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalAttempt, LocalLauncher
from engine.run.state import compute
from engine.run.supervisor import Supervisor
from engine.study.identity import Runs
from tests.app.pages import open_page, pretend_supervisor, text_of
from tests.faults.poisons import FILES, POISONS, Planter
from tests.sample_runs import genotype_at, write_finished_chain

ROLES = ("search", "retrain", "attack")
MOST_HARMFUL = ("half of a surrogate pair", "huge", "infinite", "as text", "a list", "nearly infinite")
DATA = ("events.jsonl", "log.txt", "heartbeat", "results/outcomes.parquet", "results/samples.parquet", "results/network.json")
PAGES = ("launch", "studies", "runs", "queue", "pareto", "robustness", "datasets", "sql")


class NoLauncher(LocalLauncher):
    """A launcher that starts nothing."""

    def start(self, folder: RunFolder, start: Start) -> LocalAttempt:
        raise OSError("no worker in this test")


def chain(root: Path) -> dict[str, str]:
    """Write three intact runs, of which the model of the damaged copies is one."""
    root.mkdir()
    pretend_supervisor(root)
    return dict(zip(ROLES, write_finished_chain(root)))


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    """Return what the list of runs says about each run, without its age."""
    log = RunLog.open(root, in_memory=True)
    try:
        log.ingest()
        log.events_revision()
        log.waits_for_supervisor()
        return {row["id"]: row for row in json.loads(log.runs().drop(columns=["age_s"]).to_json(orient="records"))}
    finally:
        log.close()


def check_nobody_else_notices(root: Path, ids: Mapping[str, str], planter: Planter, before: Mapping[str, dict[str, Any]],
                              capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """Check all readers of the runs folder except the pages, and return the row of each run."""
    after = rows_of(root)
    assert set(after) == {*ids.values(), *planter.planted}
    assert {one: after[one] | {"children": 0} for one in ids.values()} == {
        one: before[one] | {"children": 0} for one in ids.values()}
    supervisor = Supervisor(root, launcher=NoLauncher())
    supervisor.tick()
    supervisor.tick()
    assert not supervisor.workers
    for one, row in after.items():
        assert compute(RunFolder(root, one)).status in ("queued", "stopped", "finished", "failed")
        assert row["status"] != "failed" or row["cause"].endswith(".")
    assert Runs(root)[ids["search"]].experiment
    for words in (["runs"], ["runs", "--json"], ["queue"]):
        assert main([*words, "--runs", str(root)]) == 0
        capsys.readouterr().out.encode()
    answer, told = main(["table", "--runs", str(root)]), capsys.readouterr()
    assert answer == 0 or told.err.startswith("A table has one protocol, and there are 2")  # one of a damaged attack
    told.out.encode()
    return after


def check_pages(root: Path, shown: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, pages: tuple[str, ...] = PAGES) -> None:
    """Check that the pages over all runs, and the pages of some damaged runs, show no error of the program."""
    monkeypatch.setenv("RAMPART_RUNS", str(root))
    monkeypatch.setattr(session, "PATIENCE_S", 60.0)
    try:
        for page in pages:
            test = open_page(page)
            assert not test.exception, (page, [one.message for one in test.exception])
            text_of(test).encode()
        for one, what in shown.items():
            test = open_page("run", id=one)
            assert not test.exception, (what, [one.message for one in test.exception])
            assert "This page cannot be shown" not in text_of(test), what
    finally:
        session.close()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"


def test_damage_of_one_run_stays_with_that_run(root: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    ids = chain(root)
    before = rows_of(root)
    planter = Planter(root / ids["retrain"])
    planter.plant_documents({name: POISONS[name] for name in MOST_HARMFUL}, ("run.json", "process.json", "exit.json"))
    planter.plant_events(POISONS)
    planter.plant_bytes(("exit.json", "events.jsonl"))
    after = check_nobody_else_notices(root, ids, planter, before, capsys)
    told = {what: after[one]["cause"] for one, what in planter.planted.items()}
    for what, sentence in {
            "run.json title: half of a surrogate pair": "half of a surrogate pair, which is not a character",
            "run.json created: huge": "a whole number that does not fit 64 bits",
            "exit.json attempt: infinite": "inf, which is not a finite number",
            "exit.json ended: nearly infinite": "ended in exit.json of run",
            "process.json started: as text": "must be unix seconds, got '0.15'; restore the file",
            "exit.json: nested": "must be a JSON object and cannot be read"}.items():
        assert sentence in told[what], (what, told[what])
    shown = {one: what for one, what in planter.planted.items() if what in (
        "events.jsonl: every field of every event", "run.json title: half of a surrogate pair", "exit.json ended: huge")}
    check_pages(root, shown, monkeypatch, ("runs", "queue", "pareto", "robustness"))


def test_a_radius_that_is_no_number_stays_with_its_run(root: Path) -> None:
    ids = chain(root)
    folder = RunFolder(root, ids["search"])
    run = json.loads(folder.run_json.read_text(encoding="utf-8"))
    run["config"]["epsilon"] = ""
    folder.run_json.write_text(json.dumps(run), encoding="utf-8")
    log = RunLog.open(root, in_memory=True)
    try:
        log.ingest()
        log.pareto_epochs(list(ids.values()))
    finally:
        log.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ROLES)
def test_every_poison_in_every_field_of_every_file(role: str, root: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    ids = chain(root)
    before = rows_of(root)
    planter = Planter(root / ids[role])
    planter.plant_documents(POISONS)
    planter.plant_events(POISONS)
    planter.plant_bytes((*FILES, *DATA))
    check_nobody_else_notices(root, ids, planter, before, capsys)
    shown = dict(list(planter.planted.items())[::100])
    check_pages(root, shown, monkeypatch, PAGES if role != "attack" else ())


def test_a_name_that_is_not_utf8_is_no_run(root: Path) -> None:
    ids = chain(root)
    os.mkdir(os.fsencode(root) + b"/20261118-0906-arnas-digits-\xff\xfe")
    assert set(rows_of(root)) == set(ids.values())


def test_files_whose_names_are_not_utf8_are_imported_or_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain(root)
    path = root.parent / os.fsdecode(b"found\xff.json")
    path.write_text(genotype_at(3).to_json())
    assert main(["import", str(path), "--title", "\ud800 and more", "--runs", str(root)]) == 0
    run = RunFolder(root, capsys.readouterr().out.strip()).read_run()
    assert run["title"] == "? and more, imported" and run["imported"]["file"] == "found?.json"
    assert rows_of(root)[run["id"]]["status"] == "finished"
    for name in (b"cats", b"dogs\xff"):
        os.makedirs(os.fsencode(root.parent) + b"/pictures/" + name)
    with pytest.raises(DataError, match=r"The name of a class folder must be text in UTF-8, dogs\? in .* is not; rename it"):
        scan(root.parent / "pictures")


def test_a_launch_with_half_a_character_is_refused(root: Path) -> None:
    root.mkdir()
    pretend_supervisor(root)
    with pytest.raises(RampartError, match="half of a surrogate pair, which is not a character; correct it and launch again"):
        requests.submit(root, "search", {"threads": 1}, method="arnas", preset="smoke", study={"id": "\udcff"})
    assert run_ids(root) == []
