"""The forecast of a launch: measured batches in real processes, what they are extrapolated to, and the command."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine import requests
from engine.cli import main
from engine.configuring import build
from engine.errors import RunError
from engine.preflight.forecast import Forecast, Total, forecast, size_text
from engine.preflight.measurement import Cost, Measurement, cost_of
from engine.preflight.measuring import known, measured, place_of
from engine.preflight.shape import shapes_of
from engine.run.chain import followers
from tests.engine.run.processes import without_supervisor
from tests.engine.run.test_loops import attempt

QUICK = {"channels": 4, "layers": 4, "batch_size": 4, "attack_steps": 1, "threads": 1}


def chain(dataset: str, preset: str, changes: dict | None = None) -> list:
    config = build("search", "arnas", dataset, preset, changes or {})
    return [("search", config), *followers("search", config, "arnas", preset, ("retrain", "attack"))]


def test_batches_are_measured_without_the_dataset_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "no data"))
    steps = chain("cifar10", "paper", QUICK)[:1]
    first = forecast(tmp_path, steps, method="arnas", preset="paper", measure=True)
    cost = first.costs["search"]
    assert cost.source == "batches" and cost.seconds and cost.seconds > 0 and 10**8 < cost.memory < 10**10 and cost.disk > 10**5
    (shape,) = shapes_of(tmp_path, steps, "arnas")
    assert known(tmp_path, shape) is not None
    # Neither seeds nor epochs need another measurement, and twice as many epochs take twice as long.
    longer = chain("cifar10", "paper", QUICK | {"seed": 9, "epochs": 100})[:1]
    again = forecast(tmp_path, longer, method="arnas", preset="paper")
    assert again.chain_s == pytest.approx(2 * first.chain_s) and again.chain_s
    wider = chain("cifar10", "paper", QUICK | {"channels": 8})[:1]
    assert forecast(tmp_path, wider, method="arnas", preset="paper").chain_s is None


def test_a_retraining_and_an_attack_are_measured_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["retrain", "--preset", "smoke", "--genotype", "ARNAS", "--then", "attack", "--seeds", "0-2", "--runs", str(tmp_path)]
    assert main(["estimate", *words, "--json", "--remembered"]) == 0
    assert {cost["source"] for cost in json.loads(capsys.readouterr().out)["costs"][0].values()} == {"table"}
    assert main(["estimate", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runs"] == {"retrain": 3, "attack": 3} and answer["chains"] == 3 and answer["seconds"] > 0
    assert all(cost["source"] == "batches" for cost in answer["costs"][0].values())
    assert main(["estimate", *words, "--remembered"]) == 0 and "6 runs: under 1 min" in capsys.readouterr().out
    assert not list(tmp_path.glob("2*"))  # nothing was launched


def test_a_process_that_gives_no_result_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (shape,) = shapes_of(tmp_path, chain("digits", "smoke")[:1], "arnas")
    with pytest.raises(RunError, match="A search run must compute a batch .* launch it without an estimate"):
        measured(tmp_path, replace(shape, device="cuda:99"))
    assert not place_of(tmp_path, shape).exists()


def test_a_full_batch_is_extrapolated_along_a_line() -> None:
    small, larger = Measurement(1.0, memory=100, batch=4), Measurement(2.0, memory=140, batch=8)
    full = larger.at(32, small)
    assert (full.seconds_per_step, full.memory, full.batch, full.rough) == (8.0, 380, 32, True)
    assert small.at(32, None).seconds_per_step == 8.0 and larger.at(8, small) is larger
    assert small.at(32, None).upper and not full.upper
    # A pass over 4 images takes 2.4 s and over 8 images 3.2 s, so a part of 1.6 s does not grow with the batch.
    quick, slow = Measurement(forward_s=0.6, selection_s=6.0, batch=4), Measurement(forward_s=0.4, selection_s=4.0, batch=8)
    assert slow.at(32, quick).forward_s == pytest.approx(8.0 / 32) and slow.at(32, quick).selection_s == pytest.approx(2.5)


def test_the_time_of_an_attack_counts_its_passes() -> None:
    config = build("attack", None, "digits", "quick", {"attacks": ("pgd-20",), "checks": False})
    cost = cost_of(config, Measurement(forward_s=1.0, backward_s=2.0))
    assert cost.seconds == 359 * (1 + 20 * 3)


def test_a_launch_costs_the_sum_of_its_chains(tmp_path: Path) -> None:
    def one(seconds: float, searches: int = 1) -> Forecast:
        return Forecast({"search": Cost(seconds, 5), "attack": Cost(10.0, 7)}, {"search": searches, "attack": 2}, 2)

    total = Total((one(100.0), one(300.0, searches=0)))  # the second search is shared, and counted with the first
    assert (one(100.0).chain_s, one(100.0).work_s, one(300.0, 0).work_s) == (110.0, 120.0, 20.0)
    assert total.seconds == 310.0  # not less than the longest chain
    assert Total((*[one(100.0)] * 4, one(300.0))).seconds == (4 * 120 + 320) / 2 and total.memory == 7
    unknown = Forecast({"search": Cost()}, {"search": 1}, 2)
    assert Total((one(100.0), unknown)).seconds is None and Total(()).seconds is None


def test_chains_of_a_grid_are_forecast_each_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--preset", "smoke", "--seeds", "0-1", "--grid", "epochs=2,6", "--grid", "channels=4,8", "--runs",
             str(tmp_path), "--remembered"]
    for channels, seconds in ((4, 30.0), (8, 90.0)):
        config = build("search", "arnas", "digits", "smoke", {"channels": channels})
        (shape,) = shapes_of(tmp_path, [("search", config)], "arnas")
        place_of(tmp_path, shape).parent.mkdir(parents=True, exist_ok=True)
        place_of(tmp_path, shape).write_text(json.dumps(asdict(Measurement(seconds_per_step=seconds, memory=10**8, batch=8))))
    assert main(["estimate", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    times = dict(zip(answer["variants"], (cost["search"]["seconds"] for cost in answer["costs"]), strict=True))
    # Two steps an epoch: 2 epochs of 30 s steps take 120 s.
    assert times == {"epochs 2, channels 4": 120.0, "epochs 2, channels 8": 360.0, "epochs 6, channels 4": 360.0,
                     "epochs 6, channels 8": 1080.0}
    assert answer["seconds"] == 2 * sum(times.values()) and answer["runs"] == {"search": 8}
    assert main(["estimate", *words]) == 0 and "epochs 6, channels 8  search  2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_forecast_agrees_with_the_run(tmp_path: Path) -> None:
    """The forecast of retrainings with 2 and with 6 epochs, from one measurement, and the CPU time that they take."""
    runs = without_supervisor(tmp_path / "runs")
    changes = {"channels": 8, "layers": 4, "batch_size": 32, "threads": 1, "genotype": "ARNAS", "images": 256}
    times = []
    for epochs in (2, 6):
        config = build("retrain", None, "digits", "quick", changes | {"epochs": epochs})
        expected = forecast(runs, [("retrain", config)], measure=True).chain_s
        run_id, *_ = requests.submit(runs, "retrain", {"dataset": "digits", **changes, "epochs": epochs}, preset="quick")
        before = time.process_time()
        attempt(runs, run_id)
        taken = time.process_time() - before
        assert expected is not None and 0.5 < expected / taken < 2.0, (epochs, expected, taken)
        times.append(taken)
    assert times[1] > 1.2 * times[0]


def test_a_launch_that_does_not_fit_is_warned_about(tmp_path: Path) -> None:
    one = Total((Forecast({"search": Cost(60.0, memory=10**15, disk=10**9)}, {"search": 10**6}, 1),))
    memory, disk = one.warnings(tmp_path)
    assert "A run needs about 1000000.0 GB of memory" in memory and "The runs leave about 1000000.0 GB" in disk
    assert one.seconds == 6e7 and size_text(4e8) == "0.4 GB" and size_text(3e6) == "3 MB"
    assert Total((Forecast({"search": Cost(60.0, memory=10**6, disk=10)}, {"search": 1}, 1),)).warnings(tmp_path) == []


def test_the_command_refuses_what_a_launch_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate"]) == 2 and "usage: rampart estimate" in capsys.readouterr().out
    assert main(["estimate", "train"]) == 2 and "There is no run kind 'train'" in capsys.readouterr().err
    assert main(["estimate", "search", "--channels", "7"]) == 2 and "channels must be even" in capsys.readouterr().err
