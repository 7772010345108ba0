"""Runs as TensorBoard's event files and as an MLflow folder, read back number by number."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from engine.cli import main
from engine.log import snapshot
from tests.sample_runs import write_sample_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder of sample runs and their ids by role."""
    root = tmp_path_factory.mktemp("runs")
    return root, write_sample_runs(root)


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of an event file; check the masked CRC-32C of each, bit by bit."""
    data = path.read_bytes()
    while data:
        (length,), (crc,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        assert crc == masked(data[:8])
        body = data[12:12 + length]
        assert struct.unpack("<I", data[12 + length:16 + length])[0] == masked(body)
        yield body
        data = data[16 + length:]


def masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def expected(root: Path, run: str) -> dict[tuple[str, int], float]:
    """Return {(name, step): value} of everything that a run recorded step by step, from the run log."""
    with snapshot(root) as log:
        return {(one.name, one.step): one.value for one in log.scalars(run).itertuples()}


def test_event_files_hold_every_scalar_with_its_step(runs: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    root, ids = runs
    out = tmp_path / "tb"
    assert main(["export", ids["resumed"], ids["attack"], "--form", "tensorboard", "--out", str(out), "--runs", str(root)]) == 0
    found: dict[str, dict[tuple[str, int], float]] = {}
    for path in out.glob("*/events.out.tfevents.*"):
        events = [Event.FromString(body) for body in records(path)]
        assert events[0].file_version == "brain.Event:2" and all(event.wall_time > 1.7e9 for event in events)
        found[path.parent.name] = {(value.tag, event.step): value.simple_value for event in events
                                   for value in event.summary.value if value.WhichOneof("value") == "simple_value"}
    assert set(found) == {ids["resumed"], ids["attack"]}
    assert found[ids["resumed"]] == pytest.approx(expected(root, ids["resumed"]), rel=1e-6)
    with snapshot(root) as log:
        result = next(one for one in log.attacks(ids["attack"]).itertuples() if one.attack == "worst-case")
    for part in ("accuracy", "low", "high", "images"):
        assert found[ids["attack"]][f"attack/worst-case/{part}", 0] == pytest.approx(getattr(result, part), rel=1e-6)


def test_an_mlflow_folder_holds_settings_metrics_and_tags(runs: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, ids = runs
    out = tmp_path / "ml"
    assert main(["export", ids["search"], ids["attack"], "--form", "mlflow", "--out", str(out), "--runs", str(root)]) == 0
    (experiment,) = (out / "mlruns").iterdir()
    assert yaml.safe_load((experiment / "meta.yaml").read_text())["name"] == "rampart digits"
    folder = experiment / ids["search"]
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    assert meta["experiment_id"] == experiment.name and meta["status"] == 3 and meta["start_time"] < meta["end_time"]
    config = json.loads((root / ids["search"] / "run.json").read_text())["config"]
    assert {path.name for path in (folder / "params").iterdir()} == set(config)
    assert (folder / "params" / "epochs").read_text() == str(config["epochs"])
    points = {(str(path.relative_to(folder / "metrics")), int(step)): float(value) for path in (folder / "metrics").rglob("*")
              if path.is_file() for _, value, step in map(str.split, path.read_text().splitlines())}
    assert points == expected(root, ids["search"])
    tags = experiment / ids["attack"] / "tags"
    with snapshot(root) as log:
        fingerprints = {one.attack: one.fingerprint for one in log.attacks(ids["attack"]).itertuples() if not one.part_of}
    for attack, fingerprint in fingerprints.items():
        assert (tags / f"rampart.fingerprint.{attack}").read_text() == fingerprint


def test_a_folder_that_exists_is_left_alone(runs: tuple[Path, dict[str, str]], tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    root, ids = runs
    assert main(["export", ids["search"], "--form", "mlflow", "--out", str(tmp_path), "--runs", str(root)]) == 2
    assert "--out must be a new folder" in capsys.readouterr().err and not list(tmp_path.iterdir())
    missing = ids["search"][:-4] + "ffff"
    assert main(["export", missing, "--form", "mlflow", "--out", str(tmp_path / "new"), "--runs", str(root)]) == 2
    assert "There is no run" in capsys.readouterr().err and not list(tmp_path.iterdir())
