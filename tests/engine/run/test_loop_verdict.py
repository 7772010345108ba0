"""Attack runs that only compare their network with that of another attack run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engine.attack.comparison import ALPHA, chunk_size
from engine.attack.sequential import ConfidenceSequence
from engine.attack.verdict import Verdict
from engine.cli import verbs
from engine.errors import ConfigError, RunError, StopRequested
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.report.robustness import robustness_tables
from engine.run import checkpoint
from engine.run.folder import RunFolder
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, submit
from tests.engine.run.test_resume import same

IMAGES = 24
SETTINGS = {"attacks": ("fgsm", "apgd-ce"), "images": IMAGES, "batch_size": 16}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("verdicts") / "runs")


def finished(runs: Path, kind: str, parent: str | None = None, **changes: Any) -> str:
    run_id = submit(runs, kind, parent, **changes)
    attempt(runs, run_id)
    atomic_write_json(RunFolder(runs, run_id).ended_json, {"attempt": 1, "status": "finished", "cause": ""})
    # What a supervisor records at the start; without it, the run would wait to be started.
    atomic_write_json(RunFolder(runs, run_id).process_json, {"attempt": 1, "pid": 1, "create_time": 0.0, "boot_id": ""})
    return run_id


@pytest.fixture(scope="module")
def networks(runs: Path) -> list[str]:
    """Two networks of different seeds, barely trained."""
    return [finished(runs, "retrain", genotype="ARNAS", images=16, batch_size=16, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def whole(runs: Path, networks: list[str]) -> list[str]:
    """Complete attack runs of both networks."""
    return [finished(runs, "attack", network, **SETTINGS) for network in networks]


@pytest.fixture(scope="module")
def compared(runs: Path, networks: list[str], whole: list[str]) -> str:
    return finished(runs, "attack", networks[0], against=whole[1], **SETTINGS)


@contextmanager
def opened(runs: Path) -> Iterator[RunLog]:
    log = RunLog.open(runs)
    log.ingest()
    yield log
    log.close()


def test_the_recorded_verdict_is_that_of_the_complete_runs(runs: Path, whole: list[str], compared: str) -> None:
    """Verdict, bounds and number of images equal a direct computation from the outcomes of both complete attack runs."""
    pairs = pd.read_parquet(RunFolder(runs, compared).results / "pairs.parquet")
    with opened(runs) as log:
        first, second = (log.correct_images(run, "worst-case") for run in whole)
        (row,) = log.verdicts(compared).to_dict("records")
        assert log.verdicts().to_dict("records") == [row]
    assert pairs["first"].tolist() == [first[image] for image in pairs["image"]]
    assert pairs["second"].tolist() == [second[image] for image in pairs["image"]]
    sequence = ConfidenceSequence(IMAGES, ALPHA)
    while sequence.verdict is Verdict.OPEN:
        chunk = pairs["image"][sequence.seen:sequence.seen + chunk_size(IMAGES, sequence.seen, 16)]
        sequence.observe(int(first[image]) - int(second[image]) for image in chunk)
    assert (row["verdict"], row["images"], row["low"], row["high"]) == (sequence.verdict, sequence.seen, *sequence.interval)
    assert row["saved"] == IMAGES - sequence.seen and row["against"] == whole[1] and row["total"] == IMAGES
    assert row["first_only"] == (pairs["first"] & ~pairs["second"]).sum()


def test_a_comparison_is_in_no_table_and_measures_no_accuracy(runs: Path, compared: str) -> None:
    with opened(runs) as log:
        assert compared not in set(log.evaluations()["run"]) and log.attacks(compared).empty
        assert compared not in {row.run for table in robustness_tables(log) for row in table.rows}
        listed = log.runs().set_index("id").loc[compared]
        assert pd.isna(listed["natural_accuracy"]) and pd.isna(listed["adversarial_accuracy"])
    assert not events_of(runs, compared, "check")


def test_stopped_and_resumed_it_gives_the_same_verdict(runs: Path, networks: list[str], whole: list[str], compared: str) -> None:
    passes = events_of(runs, compared, "progress")[-1]["passes"]
    run_id = submit(runs, "attack", networks[0], against=whole[1], **SETTINGS)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, round(0.6 * passes))
    attempt(runs, run_id, 2)
    same(*(checkpoint.read(RunFolder(runs, one).checkpoint / "last.pt")["comparison"] for one in (run_id, compared)))
    with opened(runs) as log:
        same(*(log.verdicts(one).drop(columns="run").to_dict("records") for one in (run_id, compared)))


def test_killed_and_resumed_it_gives_the_same_verdict(runs: Path, networks: list[str], whole: list[str], compared: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checkpoint on the way out, the chunk in progress is attacked again."""
    run_id = submit(runs, "attack", networks[0], against=whole[1], **SETTINGS)
    monkeypatch.setattr("engine.run.preparation.StopRequested", KeyboardInterrupt)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, events_of(runs, compared, "progress")[-1]["passes"] // 2)
    monkeypatch.undo()
    attempt(runs, run_id, 2)
    with opened(runs) as log:
        rows = [log.verdicts(one).drop(columns="run").to_dict("records") for one in (run_id, compared)]
    assert rows[0] == rows[1]


def test_what_cannot_be_compared_is_refused_at_the_launch(runs: Path, networks: list[str], whole: list[str],
                                                          compared: str) -> None:
    def refused(match: str, parent: str = networks[0], against: str = whole[1], **changes: Any) -> None:
        with pytest.raises((ConfigError, RunError), match=match):
            submit(runs, "attack", parent, against=against, **SETTINGS | changes)

    refused("There is no run", against="20200101-0000-attack-digits-0000")
    refused("a retrain run has no outcomes under attack", against=networks[1])
    refused("the network of .* was attacked there, too", parent=networks[1])
    refused("a comparison does not attack all images", parent=networks[1], against=compared)
    refused(r"this run has seed 7, epsilon 0.1 instead|this run has epsilon 0.1 instead of 0.15.*seed 7 instead of 0",
            epsilon=0.1, seed=7)
    waiting = submit(runs, "attack", networks[1], **SETTINGS)
    refused("outcomes are missing", against=waiting)


def test_the_block_size_and_the_cascade_may_differ(runs: Path, networks: list[str], whole: list[str]) -> None:
    submit(runs, "attack", networks[0], against=whole[1], **SETTINGS | {"batch_size": 8, "worst_case_only": True})


def test_another_recorded_protocol_is_refused_by_the_run(runs: Path, networks: list[str], whole: list[str]) -> None:
    """A library of another version changes no setting, but the recorded protocol."""
    run_id = submit(runs, "attack", networks[0], against=whole[1], **SETTINGS)
    events = RunFolder(runs, whole[1]).events
    text = events.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        if line["event"] == "evaluation":
            line["fields"]["attacks"][0]["version"] = "0"
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        with pytest.raises(RunError, match="attack its network again with this version"):
            attempt(runs, run_id)
    finally:
        events.write_text(text)


def test_the_command_prints_the_verdict(runs: Path, compared: str, whole: list[str], monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    """`--wait` ends with the sentence, and with --json with the event."""
    from engine.cli.waiting import wait

    assert wait([compared], runs, as_json=True) == 0
    verdict = json.loads(capsys.readouterr().out)["runs"][compared]["verdict"]
    assert verdict["against"] == whole[1] and verdict["verdict"] in set(Verdict)
    assert wait([compared], runs, as_json=False) == 0
    assert "on these test images" in (out := capsys.readouterr().out) or "equally many" in out
    with pytest.raises(SystemExit):
        verbs.main(["attack", "--help"])
    assert "--against" in capsys.readouterr().out
