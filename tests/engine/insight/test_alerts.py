"""Alerts: each planted finding raises its alert and no other, and a sound run raises none."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import files
from engine.architecture.genotype import PRIMITIVES
from engine.cli import main
from engine.insight import alerts
from engine.insight.alerts import RULES, Alert, Bell, alerts_of, watched
from engine.log import RunLog, snapshot
from tests.engine.insight.planted import RETRAIN, SEARCH, alphas_of, write_retraining, write_search
from tests.sample_runs import EventsFile, write_exit, write_finished_chain, write_run_json

Read = Callable[[], RunLog]


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the test machine has room, whatever else uses it."""
    usage = shutil.disk_usage("/")._replace(free=100 * 2**30)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)


def only(log: RunLog) -> Alert:
    found = alerts_of(log, log.ids())
    assert len(found) == 1, found
    return found[0]


def test_a_sound_chain_raises_no_alert(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of()] * 4)
    write_retraining(tmp_path, [0.2, 0.3, 0.4, 0.41], [0.25, 0.35, 0.45, 0.5])
    log = read()
    assert alerts_of(log, log.ids()) == [] and alerts_of(log, []) == []


def test_a_planted_collapse(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of(robust="skip_connect")])
    found = only(read())
    assert (found.level, found.kind, found.run, found.step, found.epoch) == ("warning", "collapse", SEARCH, 4, 1)
    assert found.sentence == "The robust cell has collapsed: 8 of 8 edges have no parameters."


def test_the_criterion_of_darts_plus_is_a_note(read: Read, tmp_path: Path) -> None:
    alphas = alphas_of()
    alphas["accurate"][:2, PRIMITIVES.index("skip_connect")] = 3.0
    write_search(tmp_path, [alphas_of(), alphas])
    found = only(read())
    assert (found.level, found.kind) == ("info", "collapse")
    assert found.sentence == "The accurate cell has 2 skip connections. DARTS+ would end the search here."


def test_planted_one_hot_weights_early_in_a_search(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of(20.0)], changes={"epochs": 40})
    found = only(read())
    assert (found.level, found.kind, found.epoch) == ("warning", "entropy floor", 1)
    assert "(entropy 0 % of its largest value) after epoch 1 of 40" in found.sentence


def test_one_hot_weights_at_the_end_are_what_a_search_is_for(read: Read, tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of(20.0)], changes={"epochs": 1})
    log = read()
    assert alerts_of(log, log.ids()) == []


def test_planted_robust_overfitting(read: Read, tmp_path: Path) -> None:
    write_retraining(tmp_path, [0.30, 0.48, 0.42, 0.40], [0.35, 0.50, 0.60, 0.75])
    found = only(read())
    assert (found.level, found.kind, found.run, found.step, found.epoch) == ("warning", "robust overfitting", RETRAIN, 16, 4)
    assert found.sentence == ("Robust overfitting: adversarial accuracy on the select split fell from 48.0 % in epoch 2 to "
                              "41.0 %, while on training batches it rose from 50.0 % to 75.0 %. The checkpoint of epoch 2 is "
                              "kept.")


@pytest.mark.parametrize(("select", "train"), [
    ([0.30, 0.48, 0.46, 0.45], [0.35, 0.5, 0.6, 0.7]),  # within the noise of a split
    ([0.30, 0.48, 0.40], [0.35, 0.5, 0.6]),  # a single bad measurement
    ([0.30, 0.48, 0.40, 0.38], [0.35, 0.5, 0.45, 0.4]),  # falls on the training batches too
    ([0.02, 0.05, 0.01, 0.01], [0.1, 0.11, 0.12, 0.13])])  # never was robust
def test_what_is_no_overfitting(read: Read, tmp_path: Path, select: list[float], train: list[float]) -> None:
    write_retraining(tmp_path, select, train)
    log = read()
    assert alerts_of(log, log.ids()) == []


def test_planted_catastrophic_overfitting(read: Read, tmp_path: Path) -> None:
    write_retraining(tmp_path, [0.30, 0.40, 0.01], [0.40, 0.50, 0.95])
    found = only(read())
    assert (found.level, found.kind, found.step, found.epoch) == ("warning", "catastrophic overfitting", 12, 3)
    assert "fell from 40.0 % in epoch 2 to 1.0 %" in found.sentence


def test_catastrophic_overfitting_that_the_worker_found_too_is_told_once(read: Read, tmp_path: Path) -> None:
    folder = write_retraining(tmp_path, [0.30, 0.40, 0.01], [0.40, 0.50, 0.95])
    events = EventsFile(folder)
    events.step, events.epoch = 9, 3
    events.write("alert", level="warning", text="Catastrophic overfitting: on a training batch, accuracy fell.")
    found = only(read())
    assert found.kind == "catastrophic overfitting" and found.step == 9


def test_a_planted_loss_that_is_not_finite(read: Read, tmp_path: Path) -> None:
    write_retraining(tmp_path, [0.3], [0.3], loss=None)
    found = only(read())
    assert (found.level, found.kind, found.step) == ("error", "not finite", 1)
    assert found.sentence == "The training loss was not finite in step 1."


@pytest.mark.parametrize(("kind", "text"), [
    ("not finite", "Every loss must be finite, got NaN or infinity in step 3 (epoch 1); launch the search again."),
    ("not finite", "Step 3 of the search must give finite numbers, got a training loss of nan; lower the rate."),
    ("disk", "Disk full: the run could not write to its folder."), ("run", "Out of memory: use fewer channels.")])
def test_alerts_of_workers_keep_their_words(read: Read, tmp_path: Path, kind: str, text: str) -> None:
    events = EventsFile(write_run_json(tmp_path, SEARCH, "search"))
    events.write("alert", level="error", text=text)
    events.write("alert", level="info", text="A note.")
    found = only(read())
    assert (found.level, found.kind, found.sentence, found.run) == ("error", kind, text, SEARCH)


def test_a_killed_worker_raises_an_error_and_one_that_said_why_raises_one_only(read: Read, tmp_path: Path) -> None:
    cause = "Killed by signal 9 (SIGKILL)."
    folder = write_search(tmp_path, [alphas_of()] * 2)
    write_exit(folder, EventsFile(folder), code=-9, status="failed", cause=cause)
    found = only(read())
    assert (found.level, found.kind, found.run, found.sentence) == ("error", "failed", SEARCH, cause)
    EventsFile(folder).write("alert", level="error", text=cause)
    assert only(read()).kind == "run"


def silence(folder: Path, seconds: float) -> None:
    past = time.time() - seconds
    os.utime(folder / "events.jsonl", (past, past))


def write_slow_steps(root: Path, step_s: float) -> Path:
    """Write a search whose worker is this process, with ten steps of `step_s` seconds, and silent for ten minutes."""
    folder = write_search(root, [alphas_of()], ended="", created=time.time() - 600 - 10 * step_s)
    events = EventsFile(folder, t=time.time() - 600 - 10 * step_s)
    for done in range(11):
        events.t += step_s
        events.write("progress", phase="search", done=float(done), total=40.0, unit="steps", passes=9)
    silence(folder, 600)
    return folder


def test_a_planted_stall_is_told_with_the_usual_time_of_a_step(read: Read, tmp_path: Path) -> None:
    write_slow_steps(tmp_path, 6.0)
    found = only(read())
    assert (found.level, found.kind, found.run) == ("warning", "stalled", SEARCH)
    assert found.sentence == ("The worker is alive and has written nothing for 10 min; before, a step took 6.1 s. Stop it and "
                              "resume.")


def test_a_silence_within_its_own_steps_is_no_stall(read: Read, tmp_path: Path) -> None:
    write_slow_steps(tmp_path, 200.0)
    log = read()
    assert alerts_of(log, log.ids()) == []


@pytest.mark.parametrize(("free", "level"), [(3 * 2**30, None), (2**30, "warning"), (2**20, "error")])
def test_a_full_disk_is_told_once_for_all_runs(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int,
                                               level: str | None) -> None:
    write_finished_chain(tmp_path)
    log = read()
    monkeypatch.setattr(alerts, "free_bytes", lambda root: free)
    found = [(alert.level, alert.kind, alert.run) for alert in alerts_of(log, [])]
    assert found == ([(level, "disk", "")] if level else [])


def test_runs_that_ended_long_ago_are_not_watched(read: Read, tmp_path: Path) -> None:
    now = time.time()
    write_search(tmp_path, [alphas_of()] * 2, run="20261118-1000-arnas-digits-0001", created=now - 3600)
    write_search(tmp_path, [alphas_of()] * 2, run="20261118-1000-arnas-digits-0002", created=now - 2 * 86_400)
    write_search(tmp_path, [alphas_of()] * 2, run="20261118-1000-arnas-digits-0003", created=now - 2 * 86_400 - 60, ended="")
    assert [run[-4:] for run in watched(read(), now)] == ["0001", "0003"]


def test_errors_come_first_and_one_run_may_have_several_alerts(read: Read, tmp_path: Path) -> None:
    folder = write_search(tmp_path, [alphas_of(), alphas_of(robust="skip_connect")])
    EventsFile(folder).write("alert", level="error", text="Out of memory: use fewer channels.")
    log = read()
    assert [alert.kind for alert in alerts_of(log, log.ids())] == ["run", "collapse"]


def test_a_bell_tells_the_same_and_reads_only_runs_with_new_events(tmp_path: Path) -> None:
    now = time.time()
    folder = write_search(tmp_path, [alphas_of(), alphas_of(robust="skip_connect")], created=now)
    write_retraining(tmp_path, [0.30, 0.48, 0.42, 0.40], [0.35, 0.50, 0.60, 0.75], created=now)
    with snapshot(tmp_path) as log:
        bell, asked = Bell(log), []
        log.written_alerts = lambda runs: asked.append(list(runs)) or type(log).written_alerts(log, runs)
        first = bell.alerts()
        assert first == alerts_of(log) and {alert.kind for alert in first} == {"collapse", "robust overfitting"}
        asked.clear()
        assert bell.alerts() == first and asked == []
        EventsFile(folder, t=now + 9).write("alert", level="error", text="Out of memory: use fewer channels.")
        log.ingest()
        assert [alert.kind for alert in bell.alerts()][0] == "run" and asked == [[SEARCH]]
        EventsFile(folder, t=now + 10).write("metric", split="alphas", name="natural_loss", value=1.0)
        log.ingest()
        assert len(bell.alerts()) == 3 and asked == [[SEARCH]]  # a metric is nothing for the rule about written alerts
        shutil.rmtree(folder)
        log.ingest()
        assert [alert.kind for alert in bell.alerts()] == ["robust overfitting"]


def test_the_command_lists_alerts_and_fails_on_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_search(tmp_path, [alphas_of(), alphas_of(robust="skip_connect")])
    assert main(["alerts", "--runs", str(tmp_path)]) == 0 and capsys.readouterr().out == "No alerts.\n"
    assert main(["alerts", "--all", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split("  ") == ["warning", "collapse", SEARCH, "The robust cell has collapsed: 8 of 8 edges "
                                                   "have no parameters.\n"]
    EventsFile(folder).write("alert", level="error", text="Out of memory: use fewer channels.")
    assert main(["alerts", SEARCH, "--json", "--runs", str(tmp_path)]) == 1
    assert [one["level"] for one in json.loads(capsys.readouterr().out)] == ["error", "warning"]
    assert main(["alerts", "20260101-0000-arnas-digits-0000", "--runs", str(tmp_path)]) == 2
    assert "There is no run" in capsys.readouterr().err


def test_the_document_states_every_rule_as_it_is() -> None:
    text = " ".join((Path(__file__).parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8").split())
    assert not [kind for kind, words in RULES.items() if f"**{kind}**: {words}" not in text]


def test_the_entropy_of_alerts_is_that_of_the_river(read: Read, tmp_path: Path) -> None:
    from engine.insight.alphas import river
    write_search(tmp_path, [alphas_of(), alphas_of(3.0)])
    log = read()
    course = river(log, SEARCH, "reduce")
    latest = next(one for one in log.latest_alphas([SEARCH]) if one.cell == "reduce")
    assert course is not None and np.isclose(alerts._relative_entropy(latest), course.relative_entropy[-1].mean())
