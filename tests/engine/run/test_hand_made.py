"""A hand-made network through retraining, attack, run log, capacity matching and export, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import api, requests
from engine.architecture.network import named_network
from engine.cli import main
from engine.configuring import build, differences_from_paper
from engine.errors import RampartError, StopRequested
from engine.files import atomic_write_json
from engine.log import RunLog
from engine.run import admission, checkpoint
from engine.run.attacked_network import network_of
from engine.run.folder import RunFolder, read_json
from tests import sample_runs
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, last, submit
from tests.engine.run.test_resume import same

WIDE = "wide-resnet-10-1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("hand-made") / "runs")


def finish(runs: Path, run_id: str) -> None:
    attempt(runs, run_id)
    # What a supervisor would have recorded.
    atomic_write_json(RunFolder(runs, run_id).ended_json, {"attempt": 1, "status": "finished", "cause": ""})


@pytest.fixture(scope="module")
def trained(runs: Path) -> str:
    run_id = submit(runs, "retrain", network=WIDE, epochs=2)
    finish(runs, run_id)
    return run_id


def test_a_retraining_says_what_it_trains(runs: Path, trained: str) -> None:
    run = RunFolder(runs, trained).read_run()
    assert (run["title"], run["method"], run["parent"]) == ("WRN-10-1", "WRN-10-1", None)
    assert f"--network {WIDE}" in run["command"]
    assert read_json(RunFolder(runs, trained).results / "network.json") == {
        "hand_made": WIDE, "classes": 10, "image_shape": [1, 8, 8]}
    (event,) = events_of(runs, trained, "network")
    size = named_network(WIDE, 10, (1, 8, 8)).cost()
    assert (event["hand_made"], event["parameters"], event["macs"]) == (WIDE, size.parameters, size.macs)
    assert not {"genotype", "hash", "channels", "layers"} & event.keys()
    _, network, weights = network_of(RunFolder(runs, trained))
    assert sum(p.numel() for p in network.parameters()) == size.parameters
    assert weights.keys() == network.state_dict().keys()


@pytest.mark.parametrize("looks", [1, 9, 14])
def test_stopped_and_resumed_equals_uninterrupted(runs: Path, trained: str, looks: int) -> None:
    cut = submit(runs, "retrain", network=WIDE, epochs=2)
    with pytest.raises(StopRequested):
        attempt(runs, cut, 1, looks)
    attempt(runs, cut, 2)
    same(last(runs, trained), last(runs, cut))
    same(*(checkpoint.read(RunFolder(runs, run_id).checkpoint / "best.pt") for run_id in (trained, cut)))


@pytest.mark.parametrize("changes", [{"training": "trades"}, {"training": "fast_at", "average_decay": 0.9}, {"normalise": True},
                                     {"training": "natural"}, {"precision": "bf16"}])
def test_every_training_takes_it(runs: Path, changes: dict[str, Any]) -> None:
    run_id = submit(runs, "retrain", network=WIDE, **changes)
    attempt(runs, run_id)
    assert RunFolder(runs, run_id).read_run()["title"].startswith("WRN-10-1, ")


def test_an_attack_follows_and_the_log_knows_the_network(runs: Path, trained: str) -> None:
    attack = submit(runs, "attack", trained, attacks=["fgsm"])
    finish(runs, attack)
    log = RunLog.open(runs, in_memory=True)
    try:
        log.ingest()
        row, found = log.run(attack), log.evaluations().set_index("run").loc[attack]
        assert log.genotype(attack) is None and log.genotype(trained) is None
        assert not log.alerts(attack)["text"].str.contains("must be").any()
    finally:
        log.close()
    size = named_network(WIDE, 10, (1, 8, 8)).cost()
    for one in (row, found):
        assert (one["title"], one["hand_made"], one["genotype_hash"]) == ("WRN-10-1", WIDE, "")
        assert (one["parameters"], one["macs"]) == (size.parameters, size.macs)
    assert found["genotype"] is None and found["complete"]


@pytest.mark.parametrize("reference", ["name", "run"])
def test_derived_networks_can_be_matched_to_it(runs: Path, trained: str, reference: str) -> None:
    match_to = WIDE if reference == "name" else trained
    (run_id,) = requests.submit(runs, "retrain", {"genotype": "ARNAS", "match": "params", "match_to": match_to, "layers": 5},
                                preset="quick")
    run = RunFolder(runs, run_id).read_run()
    size = api.describe("ARNAS", channels=run["config"]["channels"], layers=5, image_shape=(1, 8, 8))[1]["parameters"]
    assert size == pytest.approx(named_network(WIDE, 10, (1, 8, 8)).cost().parameters, rel=0.05)
    assert ("parameters as WRN-10-1 (" if reference == "name" else "parameters as run ") in run["title"]


def test_it_can_be_exported_as_onnx_only(runs: Path, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, name in (("json", "a.json"), ("module", "a.py")):
        for what in (trained, WIDE):
            assert main(["export", what, "--format", form, "--out", str(tmp_path / name), "--runs", str(runs)]) == 2
            assert "which has none; such a network can be exported as weights, safetensors or onnx." in capsys.readouterr().err
    assert main(["export", trained, "--format", "onnx", "--channels", "8", "--out", "a.onnx", "--runs", str(runs)]) == 2
    assert "channels of the retrained network" in capsys.readouterr().err
    onnx = pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    out = tmp_path / "a.onnx"
    assert main(["export", trained, "--format", "onnx", "--out", str(out), "--runs", str(runs)]) == 0
    assert {one.key: one.value for one in onnx.load(str(out)).metadata_props}["hand_made"] == WIDE
    x = torch.rand(3, 1, 8, 8)
    found = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(["logits"], {"images": x.numpy()})[0]
    with torch.no_grad():
        expected = network_of(RunFolder(runs, trained))[1].eval()(x)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert main(["export", WIDE, "--format", "onnx", "--classes", "7", "--out", str(tmp_path / "b.onnx")]) == 0


def test_its_size_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "wide-resnet-34-10"]) == 0
    assert "46.160 M" in (said := capsys.readouterr().out) and "arXiv 1605.07146" in said
    assert main(["describe", "resnet-18", "--json"]) == 0 and json.loads(capsys.readouterr().out)["parameters"] == 11_173_962


def test_the_published_training_is_taken_over_without_what_it_does_not_have() -> None:
    found = build("retrain", None, "cifar10", "paper", {"network": "Wide-ResNet-34-10"})
    assert (found.network, found.auxiliary_weight, found.drop_path, found.epochs) == ("wide-resnet-34-10", 0, 0, 200)
    assert [one.field for one in differences_from_paper(found)] == ["auxiliary_weight"]
    assert found.deviations() == []
    assert build("retrain", None, "cifar10", "paper", {"network": " Derived"}) == build("retrain", None, "cifar10", "paper")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"network": "resnet-50"}, "network must be derived, resnet-18"), ({"network": 18}, "network must be a valid string, got 18"),
    ({"network": None}, "network must be a valid string, got None"),
    ({"network": "resnet-18", "genotype": "ARNAS"}, "genotype must be left out for ResNet-18.*got ARNAS"),
    ({"network": "resnet-18", "transplant": "accurate:robust"}, "transplant must be left out"),
    ({"network": "resnet-18", "placement": "normal", "width_ratio": "1:2:4"}, "placement, width_ratio must be left out"),
    ({"network": "resnet-18@70000"}, "base channels of ResNet-18 must be"),
    ({"network": "resnet-18", "auxiliary_weight": 0.4, "drop_path": 0.2},
     "auxiliary_weight, drop_path must be left out.*0.4, 0.2"),
])
def test_what_belongs_to_derived_networks_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RampartError, match=sentence):
        build("retrain", None, "cifar10", "paper", changes)


def test_it_follows_no_search(runs: Path) -> None:
    runs_of_searches = runs.parent / "searches"
    search, *_ = sample_runs.write_finished_chain(runs_of_searches)
    with pytest.raises(RampartError, match="must train its genotype .* got resnet-18; launch it separately"):
        requests.submit(runs_of_searches, "retrain", {"network": "resnet-18"}, preset="smoke", parent=search)
    with pytest.raises(RampartError, match="launch it separately"):
        requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=["retrain"],
                        then_changes={"retrain": {"network": "resnet-18"}})


def test_a_run_that_has_no_genotype_is_no_source_of_one(runs: Path, trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transplant", trained, "--swap", "accurate:robust", "--runs", str(runs)]) == 2
    assert "got WRN-10-1, which has none" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [{"hand_made": "resnet-99"}, {"hand_made": 5}, {"hand_made": "resnet-18"}, {"classes": "x"},
                                    {"image_shape": [1, 8]}])
def test_a_damaged_description_is_a_sentence(runs: Path, trained: str, damage: dict[str, Any]) -> None:
    path = RunFolder(runs, trained).results / "network.json"
    whole = read_json(path)
    try:
        atomic_write_json(path, whole | damage)
        with pytest.raises(RampartError, match="must") as raised:
            network_of(RunFolder(runs, trained))
        assert "\n" not in str(raised.value)
    finally:
        atomic_write_json(path, whole)


def test_a_launch_asks_for_the_disk_that_its_checkpoints_take(runs: Path, trained: str) -> None:
    def asked(network: str, **changes: Any) -> tuple[int, int]:
        size = named_network(network, 10, (1, 8, 8)).cost().parameters
        return admission.checkpoint_bytes(build("retrain", None, "digits", "smoke", {"network": network, **changes})), size

    for changes, copies in (({}, 10), ({"average_decay": 0.9}, 13)):
        found, size = asked("wide-resnet-34-10", **changes)
        assert found == 4 * copies * size
    found, size = asked(WIDE)
    assert found == admission.LEAST_FREE_BYTES
    files = {path.name: path.stat().st_size for path in RunFolder(runs, trained).checkpoint.iterdir()}
    assert set(files) == {"last.pt", "previous.pt", "best.pt"}
    assert 4 * 10 * size == pytest.approx(sum(files.values()) + files["last.pt"], rel=0.3)  # small files have much around numbers
    with pytest.raises(RampartError, match="A launch needs at least [0-9]{5,} MB free"):
        requests.submit(runs, "retrain", {"network": "wide-resnet-994-99"}, preset="smoke")
