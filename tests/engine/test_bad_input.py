"""Bad input at every entry point: one sentence with expectation, input and remedy, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import api, requests
from engine.cli import main
from engine.cli.waiting import wait
from engine.errors import RampartError
from engine.log import RunLog
from engine.run import admission
from engine.run.folder import RunFolder
from tests.engine.run.processes import without_supervisor

CYCLE = {"normal": [["skip_connect", 3], ["skip_connect", 1]] + [["skip_connect", 0]] * 6, "normal_concat": [2, 3, 4, 5],
         "reduce": [["skip_connect", 0]] * 8, "reduce_concat": [2, 3, 4, 5]}
UNKNOWN = {**CYCLE, "normal": [["conv_1x1", 0]] + [["skip_connect", 0]] * 7}

SEARCH = ["search", "--preset", "smoke"]
RETRAIN = ["retrain", "--preset", "smoke"]
REFUSED = [
    (["search", "--method", "arnsa"], "There is no method 'arnsa'", "Did you mean 'arnas'?"),
    (["search", "--dataset", "digit"], "There is no dataset 'digit'", "Did you mean 'digits'?"),
    (["search", "--preset", "qiuck"], "There is no preset 'qiuck'", "Did you mean 'quick'?"),
    ([*SEARCH, "--epsilom", "0.1"], "There is no option '--epsilom'", "Did you mean '--epsilon'?"),
    ([*SEARCH, "--dataset", ""], "There is no dataset ''", "known are"),
    ([*SEARCH, "--runs", ""], "The runs folder must have a name, got ''", "--runs DIR"),
    ([*SEARCH, "--epsilon", "8"], "epsilon must be in 0..1", "did you mean 8/255?"),
    ([*SEARCH, "--epochs", "4.5"], "epochs must be a valid integer, got 4.5;", "give such a value"),
    ([*SEARCH, "--epsilon", "1/0"], "epsilon must be a valid number, got '1/0'", "give such a value"),
    ([*SEARCH, "--batch-size", "4096"], "batch_size must be at most 64", "use"),
    ([*RETRAIN, "--genotype", "ARNAS", "--batch-size", "4096"], "batch_size must be at most 128", "use"),
    ([*SEARCH, "--channels", "7"], "channels must be even", "use 8"),
    ([*SEARCH, "--epochs", "many"], "epochs must be", "got 'many'"),
    ([*SEARCH, "--epochs", "9" * 30], "epochs must be less than or equal to 10000", "give such a value"),
    ([*SEARCH, "--epochs", "9" * 5000], "epochs must be", "give such a value"),
    ([*SEARCH, "--epsilon", "1e999"], "epsilon must be a finite number", "give such a value"),
    ([*SEARCH, "--then", "retrain", "--retrain.epochs", "0"], "The retraining that follows: epochs must be", "give such a value"),
    ([*SEARCH, "--config", "/none.json"], "must be readable, /none.json is not", "give another"),
    ([*SEARCH, "--config", ""], "must be readable, '' is not", "give another"),
    ([*SEARCH, "--epochs"], "must each be a known name and its value", "--help"),
    ([*SEARCH, "--then", "attack"], "can be followed by retrain then attack", "--then retrain,attack"),
    ([*SEARCH, "--threads", "0"], "threads must be", "got 0; give such a value"),
    ([*SEARCH, "--gradient-clip", "inf"], "gradient_clip must be a finite number", "give such a value"),
    ([*SEARCH, "--device", "gpu"], "device must be auto, cpu, cuda or cuda:N, got 'gpu'", "give such a value"),
    ([*RETRAIN], "needs the id of a search run (--parent), a genotype (--genotype) or the name", "rampart runs"),
    ([*RETRAIN, "--genotype", "ARNSA"], "There is no catalogue genotype 'ARNSA'", "Did you mean"),
    ([*RETRAIN, "--genotype", "{"], "A genotype must be JSON", "correct the text"),
    ([*RETRAIN, "--genotype", json.dumps(UNKNOWN)], "conv_1x1", "known are"),
    ([*RETRAIN, "--genotype", json.dumps(CYCLE)], "earlier state", "choose one of those"),
    ([*RETRAIN, "--genotype", "ARNAS", "--auxiliary-weight", "0.4"], "auxiliary_weight must be 0", "8 pixels"),
    (["attack", "--preset", "smoke"], "needs the id of a retrain run (--parent)", "rampart runs"),
    (["attack", "--preset", "smoke", "--parent", "../x"], "A run id looks like", "got '../x'"),
    (["attack", "--preset", "smoke", "--parent", "{search}"], "The parent of a run of kind attack must be a retrain", "name its"),
    ([*RETRAIN, "--parent", "20200101-0000-arnas-digits-0000"], "There is no run", "rampart runs"),
    (["attack", "--preset", "smoke", "--parent", "{retrain}", "--attacks", "pdg-20"], "There is no attack 'pdg-20'", "known are"),
    (["attack", "--preset", "smoke", "--parent", "{retrain}", "--attacks", "fgsm", "fgsm"], "each only once", "got"),
    (["stop", "../../etc"], "A run id looks like", "rampart runs"),
    (["resume", "20200101-0000-arnas-digits-0000"], "There is no run", "rampart runs"),
    (["serach"], "There is no command 'serach'", "Did you mean 'search'?"),
    (["stop"], "The following arguments are required: id", "--help"),
    (["describe", "ARNAS", "--channels", "-2"], "channels", "-2"),
    (["describe", "ARNAS", "--layers", "9" * 9], "layers must be at most 1000", "use fewer"),
    (["describe", "DARTSV2"], "There is no catalogue genotype", "DARTS_V2"),
    (["schema", "serach"], "invalid choice", "--help"),
]


# With --runs FILE, a file that is no folder.
NO_FOLDER = [["runs"], ["queue"], ["reindex"], ["search", "--preset", "smoke"], ["stop", "20200101-0000-arnas-digits-0000"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("bad") / "runs")


@pytest.fixture(scope="module")
def chain(runs: Path) -> dict[str, str]:
    ids = requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain", "attack"))
    return dict(zip(("search", "retrain", "attack"), ids))


def everything(runs: Path) -> dict[str, bytes]:
    return {str(path.relative_to(runs)): path.read_bytes() for path in runs.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("words", "expected", "advice"), REFUSED, ids=lambda value: " ".join(value)[:40] if
                         isinstance(value, list) else "")
def test_a_sentence_on_stderr_code_two_and_nothing_written(
        words: list[str], expected: str, advice: str, runs: Path, chain: dict[str, str], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAMPART_RUNS", str(runs))
    before = everything(runs)
    assert main([word.replace("{search}", chain["search"]).replace("{retrain}", chain["retrain"]) if word in (
        "{search}", "{retrain}") else word for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert expected in said.err and advice in said.err
    assert said.err.count("\n") == 1
    assert everything(runs) == before


@pytest.mark.parametrize("words", NO_FOLDER, ids=lambda words: words[0])
def test_a_runs_folder_that_is_none_is_a_sentence(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        (tmp_path / "file").write_text("kept")
        code = main([*words, "--runs", str(path)])
        said = capsys.readouterr().err
        assert code == 2 and said.count("\n") == 1 and str(path) in said
    assert (tmp_path / "file").read_text() == "kept"
    assert main(["doctor", "--json", "--runs", str(tmp_path / "file")]) == 1
    assert {one["subject"]: one["good"] for one in json.loads(capsys.readouterr().out)}["runs folder"] is False


def test_a_stop_fits_on_a_full_disk(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    (run_id,) = api.launch("search", runs=runs, preset="smoke")
    code = f"""
import resource, sys
from engine.cli import main
from engine.cli.waiting import wait
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(10 * main(["resume", {run_id!r}, "--runs", {str(runs)!r}]) + main(["stop", {run_id!r}, "--runs", {str(runs)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 20 and "Traceback" not in done.stderr, done.stderr
    assert api.status(runs, run_id).status == "stopped"
    assert [path.name for path in RunFolder(runs, run_id).control.iterdir()] == ["stop"]


def test_a_nearly_full_disk_refuses_the_launch(tmp_path: Path) -> None:
    with pytest.raises(RampartError, match=r"A launch needs at least 4398046511104 MB free .*, got .*; free some space"):
        admission.check_disk(tmp_path, least_bytes=2**62)
    admission.check_disk(tmp_path, least_bytes=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_sentence(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    runs.chmod(0o500)
    try:
        with pytest.raises(RampartError, match="nothing was launched"):
            api.launch("search", runs=runs, preset="smoke")
    finally:
        runs.chmod(0o700)


def test_a_corrupt_run_json_leaves_other_runs_untouched(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    broken, whole = (api.launch("search", runs=runs, preset="smoke")[0] for _ in range(2))
    RunFolder(runs, broken).run_json.write_text('{"id": ')
    assert "run.json" in api.status(runs, broken).cause and api.status(runs, broken).status == "failed"
    assert api.status(runs, whole).status == "queued"
    assert [entry["id"] for entry in api.queue(runs)] == [whole]
    with pytest.raises(RampartError, match="run.json"):
        api.launch("retrain", runs=runs, preset="smoke", parent=broken)
    with pytest.raises(RampartError, match="run.json.*restore the file"):
        api.resume(runs, broken)
    table = api.runs_table(runs=runs)
    assert set(table["id"]) == {broken, whole}


def test_files_of_the_supervisor_that_hold_nonsense_break_no_list(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    broken, late, whole = (api.launch("search", runs=runs, preset="smoke")[0] for _ in range(3))
    RunFolder(runs, broken).process_json.write_text('{"attempt": "x"}')
    run = RunFolder(runs, late).read_run()
    RunFolder(runs, late).run_json.write_text(json.dumps(run | {"created": "today"}))
    (runs / "queue.json").write_text("{")
    assert [entry["id"] for entry in api.queue(runs)] == [whole]
    assert {api.status(runs, run_id).status for run_id in (broken, late)} == {"failed"}
    assert "restore" in api.status(runs, broken).cause and "restore" in api.status(runs, late).cause


def test_an_environment_that_cannot_be_read_fails_the_run_instead_of_keeping_it_waiting(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    (run_id,) = api.launch("search", runs=runs, preset="smoke")
    RunFolder(runs, run_id).environment_json.write_text("{")
    assert api.status(runs, run_id).status == "failed"
    assert "environment.json" in api.status(runs, run_id).cause


def test_a_corrupt_line_of_events_leaves_the_others_readable(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    (run_id,) = api.launch("search", runs=runs, preset="smoke")
    common = {"event": "progress", "attempt": 1, "epoch": 0, "phase": "search", "total": 9, "unit": "steps", "passes": 1}
    lines = [json.dumps(common | {"t": 1.0 + done, "step": done, "done": done}) for done in (1, 5)]
    header = json.dumps({"event": "header", "schema": 1, "run": run_id})
    RunFolder(runs, run_id).events.write_text("\n".join([header, lines[0], "garbage", lines[1], ""]))
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    assert log.progress(run_id)["done"] == 5
    assert len(log.alerts(run_id)) == 1
    log.close()


def test_waiting_passes_over_lines_that_are_no_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = without_supervisor(tmp_path / "runs")
    (run_id,) = api.launch("search", runs=runs, preset="smoke")
    api.stop(runs, run_id)
    RunFolder(runs, run_id).events.write_text("\n".join(
        ["[" * 100_000, '{"event": "progress", "total": 5}', '{"event": "attack"}', '{"event": "resumed"}', "[]", "\udcff", ""]),
        errors="surrogateescape")
    assert wait([run_id], runs, False) == 1
    assert f"{run_id}  stopped" in capsys.readouterr().out


def test_waiting_ends_when_the_parent_will_not(tmp_path: Path) -> None:
    runs = without_supervisor(tmp_path / "runs")
    search, retrain, attack = api.launch("search", runs=runs, preset="smoke", then=("retrain", "attack"))
    api.stop(runs, search)
    for ids in ([attack], [retrain, attack], [search, retrain, attack]):
        assert {api.wait(ids, runs=runs)[run_id].status for run_id in ids} <= {"queued", "stopped"}
