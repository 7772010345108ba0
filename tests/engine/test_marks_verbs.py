"""The verbs that mark, clear away and repeat runs, through the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine import requests
from engine import rerun as again
from engine.cli import main
from engine.configuring import recorded
from engine.errors import RunError
from engine.run.folder import RunFolder, run_ids
from engine.study import actions
from tests.engine.run.processes import without_supervisor
from tests.sample_runs import write_sample_runs
from tests.sample_studies import finish_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = without_supervisor(tmp_path / "runs")
    monkeypatch.setenv("RAMPART_RUNS", str(root))
    return root


@pytest.fixture
def ids(runs: Path) -> dict[str, str]:
    return write_sample_runs(runs)


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_tag_note_and_archive(ids: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    search, failed = ids["search"], ids["failed"]
    answer = told(capsys, "tag", search, failed, "+baseline", "+b2", "-b2")
    assert answer == [{"run": one, "done": "tags: baseline", "refusal": ""} for one in (search, failed)]
    assert main(["tag", search]) == 0 and capsys.readouterr().out == f"{search}  tags: baseline\n"
    assert main(["tag", search, "20261118-0911-arnas-digits-ffff", "+x"]) == 2
    printed = capsys.readouterr()
    assert "tags: baseline x" in printed.out and "There is no run" in printed.err
    assert told(capsys, "note", search, "skips everywhere")[0]["done"] == "note written"
    assert told(capsys, "archive", search, failed)[1]["done"] == "archived"
    assert {row["id"] for row in told(capsys, "runs")}.isdisjoint({search, failed})
    rows = {row["id"]: row for row in told(capsys, "runs", "--archived")}
    assert rows[search]["note"] == "skips everywhere" and rows[search]["tags"] == "baseline x"
    assert told(capsys, "archive", failed, "--undo")[0]["done"] == "taken out of the archive"


def test_runs_are_listed_by_expression_as_json_and_csv(ids: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    where = ("runs", "--where", 'method == "arnas" and robust > 0.4')
    assert [row["id"] for row in told(capsys, *where)] == [ids["attack"]]
    assert main([*where, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["id"] == ids["attack"] and float(row["adversarial_accuracy"]) == 31 / 64
    assert main(["runs", "--where", "robst > 1"]) == 2
    assert "Did you mean robust?" in capsys.readouterr().err
    assert main(["runs", "--where", "seed > 99"]) == 0 and capsys.readouterr().out == "No run matches.\n"


def test_trash_restore_and_delete_with_its_size(ids: dict[str, str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trash"]) == 0 and capsys.readouterr().out == "The trash is empty.\n"
    assert told(capsys, "trash", ids["search"], ids["failed"], code=2)[1]["refusal"].startswith("1 other run needs")
    assert [one["id"] for one in told(capsys, "trash")] == [ids["failed"]]
    assert len(told(capsys, "trash", ids["search"], "--with-dependents")) == 3
    assert told(capsys, "restore", ids["failed"]) == [{"run": ids["failed"], "done": "restored", "refusal": ""}]
    assert main(["delete", "--all"]) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("Deleting 3 runs would free ") and " kB and cannot be undone" in refused
    assert len(told(capsys, "delete", "--all", "--yes")) == 3
    assert not list((runs / "trash").iterdir()) and ids["failed"] in run_ids(runs)
    assert main(["delete", "--yes"]) == 2 and "give --all, got neither" in capsys.readouterr().err


def test_a_run_of_a_study_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "new", "space", "--size", "demo", "--json"]) == 0
    study = json.loads(capsys.readouterr().out)["id"]
    actions.advance(runs, study)
    search = next(one for one in run_ids(runs) if "arnas" in one)
    finish_run(runs, search)
    (outcome,) = told(capsys, "trash", search, "--with-dependents", code=2)[-1:]
    assert outcome["run"] == search
    assert f"The study {study} uses {search}" in outcome["refusal"]
    assert actions.users_of_runs(runs)[search] == {study}


def test_a_rerun_has_the_same_settings_and_parent(ids: dict[str, str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for old in (ids["search"], ids["retrain"]):
        (outcome,) = told(capsys, "rerun", old)
        new = outcome["done"].removeprefix("launched again as ")
        first, second = (RunFolder(runs, one).read_run() for one in (old, new))
        assert recorded(second) == recorded(first)
        assert [second[key] for key in ("kind", "parent", "preset")] == [first[key] for key in ("kind", "parent", "preset")]
        assert second["children_of_chain"] == [] and requests.status(runs, new).status == "queued"


def test_a_rerun_inherits_nothing_anew(runs: Path, ids: dict[str, str]) -> None:
    """A launch with this parent would take over its seed 2, if the old run had not chosen another one."""
    path = RunFolder(runs, ids["retrain"]).run_json
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": record["config"] | {"seed": 0}}))
    assert RunFolder(runs, again.rerun(runs, ids["retrain"])).read_run()["config"]["seed"] == 0


def test_an_imported_run_cannot_be_repeated(runs: Path, ids: dict[str, str]) -> None:
    path = RunFolder(runs, ids["search"]).run_json
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imported": {"name": "log.txt"}}))
    with pytest.raises(RunError, match="was imported; launch a retraining"):
        again.rerun(runs, ids["search"])
