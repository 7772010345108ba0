"""Corrupt lines, files and folders result in one sentence each and leave everything else unchanged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunError, RunLogError
from engine.log import RunLog
from tests.engine.log.conftest import assert_same, every_query, revisions
from tests.sample_runs import EventsFile, write_genotype, write_run_json, write_search_steps

RUN = "20261118-1000-arnas-digits-1a01"
COMMON = {"t": 1.0, "attempt": 1, "step": 1, "epoch": 1}

BAD_LINES = {
    "not JSON": ("{oops", "must be one JSON object"),
    "not an object": ("[1, 2]", "got list"),
    "deep nesting": ("[" * 100_000, "must be one JSON object"),
    "unknown event": ({"event": "metrik", **COMMON}, "There is no event 'metrik'; known are: .*Did you mean 'metric'"),
    "a nameless network": ({"event": "network", **COMMON, "parameters": 1, "macs": 1, "hand_made": 5}, "hand_made must be text"),
    "a network of no kind": ({"event": "network", **COMMON, "parameters": 1, "macs": 1}, "channels must be a whole number"),
    "no event": ({**COMMON}, "There is no event 'None'"),
    "event of another type": ({"event": ["metric"], **COMMON}, "There is no event"),
    "step as text": ({"event": "finished", **COMMON, "step": "3"}, "step must be a whole number of at least 0, got '3'"),
    "negative step": ({"event": "finished", **COMMON, "step": -1}, "got -1"),
    "step that is true": ({"event": "finished", **COMMON, "step": True}, "got True"),
    "huge step": ({"event": "finished", **COMMON, "step": 10**30}, "step must be"),
    "no attempt": ({"event": "finished", "t": 1.0, "step": 1, "epoch": 1}, "attempt must be a whole number"),
    "no time": ({"event": "finished", **COMMON, "t": None}, "t must be a time in unix seconds"),
    "metric as text": ({"event": "metric", **COMMON, "split": "alphas", "values": {"natural_loss": "low"}},
                       "natural_loss must be a number, got 'low'"),
    "metric without values": ({"event": "metric", **COMMON, "split": "alphas", "values": []}, "values must be an object"),
    "ragged alpha": ({"event": "alpha", **COMMON, "cell": "robust", "primitives": ["a", "b"], "alpha": [[1, 2], [3]]},
                     "alpha must be rows of 2 finite numbers"),
    "alpha as text": ({"event": "alpha", **COMMON, "cell": "robust", "primitives": ["a"], "alpha": [["1.0"]]}, "alpha must be"),
    "alpha with NaN": ({"event": "alpha", **COMMON, "cell": "robust", "primitives": ["a"], "alpha": [[float("nan")]]},
                       "alpha must be"),
    "alpha wider than its primitives": ({"event": "alpha", **COMMON, "cell": "robust", "primitives": ["a"],
                                         "alpha": [[1.0, 2.0]]},
                                        "alpha must be rows of 1"),
    "beta with NaN": ({"event": "alpha", **COMMON, "cell": "normal", "primitives": ["a"], "alpha": [[1.0]] * 14,
                       "beta": [float("nan")] * 14}, "beta must be 14 finite numbers"),
    "beta for fewer edges": ({"event": "alpha", **COMMON, "cell": "normal", "primitives": ["a"], "alpha": [[1.0]] * 14,
                              "beta": [0.0] * 13}, "beta must be a list of 14 numbers"),
    "beta as text": ({"event": "alpha", **COMMON, "cell": "normal", "primitives": ["a"], "alpha": [[1.0]] * 14,
                      "beta": ["0"] * 14}, "beta must be a number"),
    "genotype with unknown operation": ({"event": "genotype", **COMMON, "genotype": {"normal": [["conv_9x9", 0]] * 8,
                                         "normal_concat": [2], "reduce": [], "reduce_concat": []}, "hash": "x"}, "operation"),
    "genotype missing": ({"event": "genotype", **COMMON}, "A genotype must be an object"),
    "objectives of unequal length": ({"event": "objectives", **COMMON, "names": ["a", "b"], "losses": [1], "weights": [1, 0],
                                      "norms": [1, 1], "cosines": [[1, 0], [0, 1]]}, "losses must be a list of 2"),
    "attack with too many correct": ({"event": "attack", **COMMON, "attack": "fgsm", "title": "FGSM", "epsilon": 0.1,
                                      "images": 5, "correct": 6}, "correct must be a whole number in 0..5"),
    "attack in percent": ({"event": "attack", **COMMON, "attack": "fgsm", "title": "FGSM", "epsilon": 0.1, "images": 5,
                           "correct": 5, "accuracy": 100.0, "low": 50.0, "high": 100.0, "fingerprint": "x"}, "fractions in 0..1"),
    "alert without a level": ({"event": "alert", **COMMON, "text": "hm"}, "There is no alert level"),
    "header of a later version": ({"event": "header", "schema": 2, "run": RUN}, "another version of Rampart"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_a_fault_and_the_lines_around_it_count(tmp_path: Path, name: str) -> None:
    line, sentence = BAD_LINES[name]
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    write_search_steps(events, 1)
    offset = events.path.stat().st_size
    events.write_raw((line if isinstance(line, str) else json.dumps(line)) + "\n")
    write_search_steps(events, 1)
    log = RunLog.open(tmp_path, in_memory=True)
    report = log.ingest()
    assert report.faults == 1
    alert, = log.alerts(RUN).to_dict("records")
    assert (alert["level"], alert["source"]) == ("warning", "run log")
    assert alert["text"].startswith(f"Line at byte {offset} of events.jsonl was skipped: ")
    assert re.search(sentence, alert["text"]), alert["text"]
    assert list(log.steps_curve(RUN, ["natural_loss"])["step"]) == [1, 2]


def test_bytes_that_are_no_text_and_empty_lines(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    with events.path.open("ab") as file:
        file.write(b"\n\n\xff\xfe\x00\x80\n")
    write_search_steps(events, 1)
    log = RunLog.open(tmp_path, in_memory=True)
    assert log.ingest().faults == 1
    assert len(log.steps_curve(RUN, ["natural_loss"])) == 1


def test_a_torn_tail_waits_for_its_end(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    write_search_steps(events, 1)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    whole = json.dumps({"event": "alert", **COMMON, "level": "info", "text": "hello"}) + "\n"
    events.write_raw(whole[:20])
    assert log.ingest().events == 0
    events.write_raw(whole[20:])
    assert log.ingest().events == 1
    assert list(log.alerts(RUN)["text"]) == ["hello"]


BAD_DOCUMENTS: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "must be a JSON object"),
    "a list": ("[]", "got list"),
    "unknown kind": ({"id": RUN, "kind": "serach", "config": {}, "created": 1.0}, "kind in run.json"),
    "no config": ({"id": RUN, "kind": "search", "created": 1.0}, "config in run.json"),
    "title of another type": ({"id": RUN, "kind": "search", "config": {}, "created": 1.0, "title": 3}, "title in run.json"),
    "created as text": ({"id": RUN, "kind": "search", "config": {}, "created": "today"}, "created in run.json"),
    "missing, though it ran": (None, "is missing"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_corrupt_run_json_lists_the_run_as_failed_and_breaks_nothing(ids: dict[str, str], root: Path, name: str) -> None:
    content, sentence = BAD_DOCUMENTS[name]
    path = root / RUN / "run.json"
    events = EventsFile(write_run_json(root, RUN, "search"))
    write_search_steps(events, 3)
    if content is None:
        path.unlink()
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    listed = log.runs().set_index("id")
    assert len(listed) == 8
    assert listed.loc[RUN, "status"] == "failed" and sentence in listed.loc[RUN, "cause"]
    assert log.run(RUN)["config"] == {} and log.run(RUN)["differences"] == []
    assert sentence in list(log.alerts(RUN)["text"])[0]
    assert log.curves(RUN).empty is False and len(log.evaluations()) == 1
    write_run_json(root, RUN, "search")
    log.ingest()
    assert log.runs().set_index("id").loc[RUN, "kind"] == "search"
    assert log.alerts(RUN).empty


def test_other_runs_do_not_notice(ids: dict[str, str], root: Path, log: RunLog, answers: dict[str, Any]) -> None:
    before = {name: value for name, value in (answers | revisions(log)).items() if " of " in name}
    events = EventsFile(write_run_json(root, RUN, "search"))
    events.write_raw("rubbish\n" * 3)
    (root / RUN / "run.json").write_text("rubbish")
    assert log.ingest().faults == 3
    after = {name: value for name, value in every_query(log).items() if " of " in name and RUN not in name}
    assert_same(before, after)


def test_corrupt_outcomes_leave_the_other_results(ids: dict[str, str], root: Path) -> None:
    path = root / ids["attack"] / "results" / "outcomes.parquet"
    path.write_bytes(b"PAR1 no longer")
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    images = log.attacks(ids["attack"]).set_index("attack")["images"]
    assert images["pgd-20"] == 360 and images["worst-case"] == 64
    with pytest.raises(RunLogError, match="must be a Parquet table of outcomes"):
        log.correct_images(ids["attack"], "natural")


def test_folders_that_are_no_runs_are_left_alone(ids: dict[str, str], root: Path) -> None:
    (root / "control").mkdir()
    (root / "queue.json").write_text("{}")
    (root / "20261118-1000-arnas-digits-1a0").mkdir()
    (root / RUN).mkdir()  # being made: no run.json yet
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    assert set(log.runs()["id"]) == set(ids.values())


def test_a_parent_that_is_its_own_ancestor_ends(tmp_path: Path) -> None:
    other = "20261118-1000-arnas-digits-1a02"
    write_run_json(tmp_path, RUN, "search", parent=other)
    write_run_json(tmp_path, other, "search", parent=RUN)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    assert len(log.runs()) == 2
    assert list(log.chain(RUN)["id"]) == [RUN, other] and list(log.chain(other)["id"]) == [other, RUN]


def test_unknown_runs(log: RunLog) -> None:
    with pytest.raises(RunLogError, match="There is no run 'nothing'"):
        log.run("nothing")
    with pytest.raises(RunError, match="A run id looks like"):
        log.ingest("../x")
    assert log.curves("nothing").empty and log.progress("nothing") == {} and log.genotype("nothing") is None


def test_a_deleted_folder_takes_its_rows_with_it(ids: dict[str, str], root: Path, log: RunLog) -> None:
    shutil.rmtree(root / ids["running"])
    assert log.ingest().removed == 1
    assert ids["running"] not in set(log.runs()["id"])
    assert log.curves(ids["running"]).empty
    assert ids["running"] not in set(log.pareto_epochs()["run"])


def test_a_deleted_folder_found_by_looking_at_that_run_only(ids: dict[str, str], root: Path, log: RunLog) -> None:
    shutil.rmtree(root / ids["running"])
    log.ingest(ids["running"])
    assert set(log.runs()["id"]) == set(ids.values()) - {ids["running"]}


@pytest.mark.parametrize(("how", "steps"), [("cut", 3), ("cut and grown", 40), ("replaced", 40), ("rewritten in place", 40),
                                            ("gone", 0)])
def test_another_events_file_resets_the_run(tmp_path: Path, how: str, steps: int) -> None:
    events = EventsFile(write_run_json(tmp_path / "runs", RUN, "search"))
    write_search_steps(events, 12)
    log = RunLog.open(tmp_path / "runs", in_memory=True)
    log.ingest()
    other = EventsFile(write_run_json(tmp_path / "others", RUN.replace("1a01", "1a02"), "search"))
    write_search_steps(other, steps)
    if how == "cut":  # the same beginning, so only the length tells
        kept = [line for line in events.path.read_text().splitlines(keepends=True) if json.loads(line).get("step", 0) <= 3]
        events.path.write_text("".join(kept))
    elif how == "cut and grown":  # as after a power cut: the same file with the same beginning, and longer than before
        kept = [line for line in events.path.read_text().splitlines(keepends=True) if json.loads(line).get("step", 0) <= 3]
        events.path.write_text("".join(kept))
        again = [line for line in other.path.read_text().splitlines(keepends=True) if json.loads(line).get("step", 0) > 3]
        with events.path.open("a") as file:
            file.writelines(again)
    elif how == "replaced":
        other.path.rename(events.path)
    elif how == "rewritten in place":
        events.path.write_bytes(other.path.read_bytes())
    else:
        events.path.unlink()
    log.ingest()
    assert list(log.steps_curve(RUN, ["natural_loss"])["step"]) == list(range(1, steps + 1))
    assert log.progress(RUN).get("done") == (steps or None)


def test_a_genotype_keeps_its_own_hash(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    write_genotype(events)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    found = log.genotypes(RUN).iloc[0]
    assert json.loads(found["genotype"]) == log.genotype(RUN) and len(found["hash"]) == 12


def test_progress_that_overflows_has_no_rate(tmp_path: Path) -> None:
    events = EventsFile(write_run_json(tmp_path, RUN, "search"))
    for done in (-1e308, -1e308, 1e308):
        events.t += 6.0  # a point of the trail
        events.write("progress", phase="search", done=done, total=1e308, unit="steps", passes=9)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    progress = log.progress(RUN)
    assert progress["done"] == 1e308 and progress["seconds_left"] == 0.0 and log.throughput(RUN)["units_per_s"] is None
    log.close()
