"""The loops, run in this process so that tests can stop at any forward pass and damage files in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.network import DerivedNetwork
from engine.errors import CheckpointError, RampartError, RunError, StopRequested
from engine.files import atomic_write_json
from engine.run import checkpoint, loop_attack, loop_retrain, loop_search
from engine.run import session as session_module
from engine.run.event_kinds import Finished
from engine.run.folder import RunFolder, read_json
from engine.run.preparation import prepare, write_network
from engine.run.session import Session
from engine.run.stop import StopPoll
from engine.train.retrain import Probe
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_resume import same

LOOPS = {"search": loop_search, "retrain": loop_retrain, "attack": loop_attack}


class StopAt(StopPoll):
    """A poll that requests a stop at its n-th call."""

    def __init__(self, looks: int) -> None:
        super().__init__(Path("nowhere"))
        self.looks = looks

    def __call__(self) -> None:
        self.looks -= 1
        if self.looks <= 0:
            raise StopRequested


def attempt(runs: Path, run_id: str, number: int = 1, stop_at: int | None = None) -> Session:
    """Run one attempt as the worker does."""
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    run = folder.read_run()
    session = Session(folder, run, attempt=number, device="cpu", threads=1)
    if stop_at is not None:
        session.stop = StopAt(stop_at)
    if number == 1:
        session.open_events()
    try:
        LOOPS[run["kind"]].run(session)
        session.write(Finished())
    finally:
        session.close()
    return session


def submit(runs: Path, kind: str, parent: str | None = None, **changes: Any) -> str:
    return requests.submit(runs, kind, changes, method="arnas", preset="smoke", parent=parent)[0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("loops") / "runs")


@pytest.fixture(scope="module")
def chain(runs: Path) -> dict[str, str]:
    """Finished smoke runs of the three kinds."""
    ids: dict[str, str] = {}
    for kind, parent in (("search", None), ("retrain", "search"), ("attack", "retrain")):
        ids[kind] = submit(runs, kind, ids.get(parent or ""))
        attempt(runs, ids[kind])
        # What a supervisor would have recorded.
        atomic_write_json(RunFolder(runs, ids[kind]).ended_json, {"attempt": 1, "status": "finished", "cause": ""})
    return ids


def test_the_size_of_a_network_is_told_without_its_auxiliary_head(runs: Path) -> None:
    run_id = submit(runs, "retrain", genotype="ARNAS")
    folder = RunFolder(runs, run_id)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    write_network(session, DerivedNetwork(find_genotype("ARNAS"), 64, 20, 10, (3, 32, 32), auxiliary=True))
    session.close()
    (event,) = (event for event in events_of(runs, run_id) if event["event"] == "network")
    assert event["parameters"] == 4_520_394  # as published


def last(runs: Path, run_id: str) -> dict[str, Any]:
    return checkpoint.read(RunFolder(runs, run_id).checkpoint / "last.pt")


@pytest.mark.parametrize(("kind", "stop_at"), [
    ("search", 1), ("search", 14), ("retrain", 1), ("retrain", 9), ("attack", 1), ("attack", 40),
    *(pytest.param(kind, stop_at, marks=pytest.mark.slow) for kind, stop_at in (
        ("search", 3), ("search", 12), ("search", 26), ("retrain", 4), ("retrain", 11), ("attack", 3)))])
def test_stopped_at_any_pass_and_resumed_equals_uninterrupted(runs: Path, chain: dict[str, str], kind: str, stop_at: int) -> None:
    run_id = submit(runs, kind, {"search": None, "retrain": chain["search"], "attack": chain["retrain"]}[kind])
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, stop_at)
    attempt(runs, run_id, 2)
    same(last(runs, chain[kind]), last(runs, run_id))
    for name in ("genotype.json", "network.json"):
        same(read_json(RunFolder(runs, chain[kind]).results / name), read_json(RunFolder(runs, run_id).results / name))


RECIPES = {
    "natural": {"training": "natural"}, "trades": {"training": "trades"}, "fast_at": {"training": "fast_at", "probe_every": 1},
    "fast_at as published": {"training": "fast_at", "schedule": "cyclic"}, "average": {"average_decay": 0.9},
    "warm-up": {"warmup_epochs": 1}, "normalised": {"normalise": True, "cutout": 4},
    "bf16": {"precision": "bf16", "drop_path": 0.2}}


@pytest.mark.parametrize("recipe", [pytest.param(recipe, marks=[pytest.mark.slow] if recipe in ("natural", "warm-up") else [])
                                    for recipe in RECIPES])
def test_every_recipe_runs_and_resumes_bit_for_bit(runs: Path, recipe: str) -> None:
    whole, cut = (submit(runs, "retrain", genotype="ARNAS", epochs=2, **RECIPES[recipe]) for _ in range(2))
    passes = attempt(runs, whole).passes
    with pytest.raises(StopRequested):
        attempt(runs, cut, 1, passes * 2 // 3)
    attempt(runs, cut, 2)
    same(last(runs, whole), last(runs, cut))
    best = [checkpoint.read(RunFolder(runs, run_id).checkpoint / "best.pt") for run_id in (whole, cut)]
    same(*best)
    trained = last(runs, whole)["training"]
    if recipe == "average" and best[0]["epoch"] == 2:
        same(best[0]["network"], trained["average"]["network"])
    probes = [event for event in events_of(runs, whole, "metric") if "probe_pgd_accuracy" in event["values"]]
    assert len(probes) == {"fast_at": 4, "fast_at as published": 2}.get(recipe, 0)
    rates = [event["values"]["learning_rate"] for event in events_of(runs, whole, "metric") if event["split"] == "weights"
             and "learning_rate" in event["values"]]
    expected = {"fast_at as published": [0, 0.05, 0.1, 0.05], "warm-up": [0.05, 0.1, 0.001, 0.001]}
    assert rates == pytest.approx(expected.get(recipe, rates))


def test_progress_is_never_told_beyond_the_end(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PROGRESS_EVERY_S", 0.0)
    run_id = submit(runs, "retrain", genotype="ARNAS")
    attempt(runs, run_id)
    told = [event for event in events_of(runs, run_id) if event["event"] == "progress"]
    assert any("measuring on the select split" in event["detail"] for event in told if event["step"] == event["total"])
    assert max(event["done"] / event["total"] for event in told) == 1


def test_catastrophic_overfitting_is_an_alert_with_its_numbers(runs: Path) -> None:
    run_id = submit(runs, "retrain", genotype="ARNAS", training="fast_at")
    session = Session(RunFolder(runs, run_id), RunFolder(runs, run_id).read_run(), attempt=1, device="cpu", threads=1)
    session.folder.results.mkdir(exist_ok=True)
    session.open_events()
    loop = loop_retrain.RetrainLoop(session, prepare(session))
    loop._write_probe(Probe(0.875, 0.125, 0.5, alert=False))
    loop._write_probe(Probe(0.875, 0.125, 0.5, alert=True))
    session.close()
    (alert,) = events_of(runs, run_id, "alert")
    assert alert["level"] == "warning" and alert["text"].startswith("Catastrophic overfitting:")
    assert all(number in alert["text"] for number in ("PGD-8", "12.5 %", "50.0 %", "87.5 %"))


def test_a_search_writes_what_the_pages_read(runs: Path, chain: dict[str, str]) -> None:
    events = events_of(runs, chain["search"])
    names = [event["event"] for event in events]
    assert names[0] == "header" and names[-1] == "finished"
    assert names.count("objectives") == 2 and names.count("genotype") == 2 and names.count("alpha") == 3 * 3
    alpha = next(event for event in events if event["event"] == "alpha")
    assert len(alpha["alpha"]) == 14 and {len(row) for row in alpha["alpha"]} == {len(alpha["primitives"])} == {7}
    assert {event["cell"] for event in events if event["event"] == "alpha"} == {"robust", "reduce", "accurate"}
    metric = next(event for event in events if event["event"] == "metric" and event["split"] == "alphas")
    assert metric["statistics"] == "batch" and metric["epoch"] == 1 and metric["step"] == 1
    assert set(metric["values"]) == {"natural_loss", "natural_accuracy", "adversarial_loss", "adversarial_accuracy"}
    found = read_json(RunFolder(runs, chain["search"]).results / "genotype.json")
    assert found == [event for event in events if event["event"] == "genotype"][-1]["genotype"]


def test_an_attack_opens_the_test_split_once_and_tells_every_row(runs: Path, chain: dict[str, str]) -> None:
    opened = events_of(runs, chain["attack"], "opened")
    assert [(event["split"], event["images"], event["purpose"]) for event in opened] == [("test", 64, "attack")]
    rows = events_of(runs, chain["attack"], "attack")
    assert [row["attack"] for row in rows] == ["natural", "fgsm", "pgd-20", "worst-case"]
    assert all(row["complete"] and row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    network = events_of(runs, chain["attack"], "network")[0]
    assert network["hash"] == events_of(runs, chain["retrain"], "network")[0]["hash"]


def test_a_lineage_shares_its_splits_whatever_the_seeds(runs: Path, chain: dict[str, str]) -> None:
    other = submit(runs, "retrain", chain["search"], seed=99)
    assert RunFolder(runs, other).read_run()["config"]["split_seed"] == 0
    attempt(runs, other)
    hashes = {read_json(RunFolder(runs, run_id).environment_json)["split_hash"] for run_id in (other, *chain.values())}
    assert len(hashes) == 1


def test_a_setting_that_does_not_exist_is_told_with_its_file(runs: Path) -> None:
    run_id = submit(runs, "search")
    folder = RunFolder(runs, run_id)
    folder.run_json.write_text(folder.run_json.read_text().replace('"momentum"', '"momentun"'))
    with pytest.raises(RampartError, match=f"run.json of run {run_id} must hold valid settings.*no setting 'momentun'"):
        attempt(runs, run_id)


def test_a_corrupt_last_checkpoint_costs_steps_not_the_run(runs: Path, chain: dict[str, str]) -> None:
    run_id = submit(runs, "search")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 15)
    (RunFolder(runs, run_id).checkpoint / "last.pt").write_bytes(b"torn")
    attempt(runs, run_id, 2)
    alerts = events_of(runs, run_id, "alert")
    assert [event["level"] for event in alerts] == ["warning"] and "last.pt is corrupt" in alerts[0]["text"]
    same(last(runs, chain["search"]), last(runs, run_id))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{")])
def test_a_damaged_network_json_is_written_anew_by_a_resumed_training(runs: Path, damage: Any) -> None:
    run_id = submit(runs, "retrain", genotype="ARNAS", epochs=2)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 20)
    path = RunFolder(runs, run_id).results / "network.json"
    network = path.read_bytes()
    damage(path)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 2, 2)
    assert path.read_bytes() == network and len(events_of(runs, run_id, "network")) == 1


def test_a_damaged_best_network_is_written_anew_by_a_resumed_training(runs: Path) -> None:
    run_id = submit(runs, "retrain", genotype="ARNAS", epochs=2)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 20)
    path = RunFolder(runs, run_id).checkpoint / "best.pt"
    best = checkpoint.read(path)
    path.write_bytes(b"torn")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 2, 2)
    same(best, checkpoint.read(path))


def test_no_readable_checkpoint_is_a_sentence(runs: Path) -> None:
    run_id = submit(runs, "search")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 15)
    for path in RunFolder(runs, run_id).checkpoint.iterdir():
        path.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="restore one from a backup or launch the run again"):
        attempt(runs, run_id, 2)


@pytest.mark.parametrize("kind", ["search", "retrain", "attack"])
@pytest.mark.parametrize("change", [lambda state: state.clear(), lambda state: state.update(step=3, epoch=1, passes=9)])
def test_a_checkpoint_of_something_else_is_a_sentence(runs: Path, chain: dict[str, str], kind: str, change: Any) -> None:
    run_id = submit(runs, kind, {"search": None, "retrain": chain["search"], "attack": chain["retrain"]}[kind])
    foreign = {"method": {"layout": 1}, "training": {"network": {}}, "evaluation": {}, "measured_epoch": 0}
    change(foreign)
    checkpoint.save(RunFolder(runs, run_id).checkpoint, foreign)
    with pytest.raises(CheckpointError, match="start a new attack run|launch that run again|belongs to a search with other"):
        attempt(runs, run_id, 2)


@pytest.mark.parametrize("damage", ["not a checkpoint", "no network", "a weight is missing", "another width", "a width of text",
                                    "no genotype"])
def test_a_network_that_does_not_fit_is_a_sentence(runs: Path, chain: dict[str, str], damage: str) -> None:
    parent, run_id = RunFolder(runs, chain["retrain"]), submit(runs, "attack", chain["retrain"])
    best, network = (parent.checkpoint / "best.pt").read_bytes(), read_json(parent.results / "network.json")
    state = checkpoint.read(parent.checkpoint / "best.pt")
    try:
        if damage == "no network":
            del state["network"]
        elif damage == "a weight is missing":
            del state["network"]["classifier.bias"]
        checkpoint.write(parent.checkpoint / "best.pt", state)
        changes = {"another width": {"channels": 6}, "a width of text": {"channels": "x"}, "no genotype": {"genotype": {}}}
        atomic_write_json(parent.results / "network.json", network | changes.get(damage, {}))
        if damage == "not a checkpoint":
            (parent.checkpoint / "best.pt").write_bytes(b"torn")
        with pytest.raises(RampartError, match="launch that run again|channels must be|must have the cells") as raised:
            attempt(runs, run_id)
        assert "\n" not in str(raised.value)
    finally:
        (parent.checkpoint / "best.pt").write_bytes(best)
        atomic_write_json(parent.results / "network.json", network)


def test_other_versions_on_resume_are_told(runs: Path) -> None:
    run_id = submit(runs, "search")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 15)
    folder = RunFolder(runs, run_id)
    environment = read_json(folder.environment_json)
    environment["versions"]["torch"] = "1.0.0"
    atomic_write_json(folder.environment_json, environment)
    attempt(runs, run_id, 2)
    (alert,) = events_of(runs, run_id, "alert")
    assert "not promised" in alert["text"] and "torch 1.0.0 then" in alert["text"]


def test_back_ends_of_the_first_start_are_reused(runs: Path) -> None:
    """A later attempt uses the recorded back ends even if a new run would now choose others."""
    alphas = {}
    for recorded in ("dense", "merged"):
        run_id = submit(runs, "search")
        folder = RunFolder(runs, run_id)
        with pytest.raises(StopRequested):
            attempt(runs, run_id, 1, 15)
        assert len(set(read_json(folder.environment_json)["backends"])) == 1
        atomic_write_json(folder.environment_json,
                          read_json(folder.environment_json) | {"backends": [recorded] * 4, "kernels": None})
        attempt(runs, run_id, 2)
        assert read_json(folder.environment_json)["backends"] == [recorded] * 4
        alphas[recorded] = checkpoint.read(folder.checkpoint / "last.pt")["method"]["alphas"]
    # They compute the same, but not to the last bit: so the recorded one was used.
    assert torch.allclose(alphas["dense"], alphas["merged"], atol=1e-2) and not torch.equal(*alphas.values())


def test_other_kernels_on_resume_are_told(runs: Path) -> None:
    run_id = submit(runs, "search")
    folder = RunFolder(runs, run_id)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 15)
    atomic_write_json(folder.environment_json, read_json(folder.environment_json) | {"kernels": "of another machine"})
    attempt(runs, run_id, 2)
    (alert,) = events_of(runs, run_id, "alert")
    assert "not promised" in alert["text"] and "kernels" in alert["text"]


def test_other_images_on_resume_are_refused(runs: Path) -> None:
    run_id = submit(runs, "search")
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, 15)
    folder = RunFolder(runs, run_id)
    atomic_write_json(folder.environment_json, read_json(folder.environment_json) | {"data_hash": "0" * 16})
    with pytest.raises(RunError, match="images of digits must be those of the run's first start"):
        attempt(runs, run_id, 2)


def test_nan_is_a_sentence_and_the_checkpoint_is_older(runs: Path) -> None:
    run_id = submit(runs, "retrain", genotype="ARNAS", learning_rate=10.0, gradient_clip=1e15, epochs=30, training="natural")
    with pytest.raises(RunError, match="must be finite"):
        attempt(runs, run_id)
    state = last(runs, run_id)["training"]["network"]
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())


def test_a_parent_without_a_result_is_a_sentence(runs: Path, chain: dict[str, str]) -> None:
    waiting = submit(runs, "search")
    retrain = submit(runs, "retrain", waiting)
    attack = submit(runs, "attack", retrain)
    for run_id, what in ((retrain, "results/genotype.json"), (attack, "results/network.json")):
        with pytest.raises(RunError, match=what):
            attempt(runs, run_id)


@pytest.mark.parametrize("changes", [{}, {"average_decay": 0.9}])
def test_the_last_network_can_be_attacked_as_well(runs: Path, changes: dict[str, Any]) -> None:
    trained = submit(runs, "retrain", genotype="ARNAS", epochs=2, training="natural", **changes)
    attempt(runs, trained)
    state, best = (checkpoint.read(RunFolder(runs, trained).checkpoint / name) for name in ("last.pt", "best.pt"))
    final = state["training"]["average"]["network"] if changes else state["training"]["network"]
    hashes = {"last": checkpoint.tensors_hash(final), "best": checkpoint.tensors_hash(best["network"])}
    prints = set()
    for which, expected in hashes.items():
        attack = submit(runs, "attack", trained, checkpoint=which, attacks=["fgsm"])
        assert ("last checkpoint" in RunFolder(runs, attack).read_run()["title"]) == (which == "last")
        attempt(runs, attack)
        rows = events_of(runs, attack, "attack")
        (begun,) = events_of(runs, attack, "evaluation")
        assert (begun["network"], begun["checkpoint"]) == (expected, which)
        prints.add(tuple(row["fingerprint"] for row in rows))
    assert len(prints) == 1  # measured alike, so they may be compared
    (RunFolder(runs, trained).checkpoint / "last.pt").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint last.pt.*--checkpoint best"):
        attempt(runs, submit(runs, "attack", trained, checkpoint="last"))


def test_best_is_written_for_the_attack_to_read(runs: Path, chain: dict[str, str]) -> None:
    folder = RunFolder(runs, chain["retrain"])
    best = checkpoint.read(folder.checkpoint / "best.pt")
    assert set(best) >= {"network", "selection", "epoch", "description"}
    assert best["description"] == read_json(folder.results / "network.json")


def test_an_attack_sees_the_normalisation_of_the_training(runs: Path) -> None:
    trained = submit(runs, "retrain", genotype="ARNAS", normalise=True, average_decay=0.5)
    attempt(runs, trained)
    pixels = loop_retrain.RetrainLoop(*opened(runs, trained)).trainer.x[...]
    state = checkpoint.read(RunFolder(runs, trained).checkpoint / "best.pt")["network"]
    assert state["mean"].item() == pytest.approx(pixels.mean().item()) and state["std"].item() == pytest.approx(
        pixels.std(correction=0).item())
    atomic_write_json(RunFolder(runs, trained).ended_json, {"attempt": 1, "status": "finished", "cause": ""})
    loop = loop_attack.AttackLoop(*opened(runs, submit(runs, "attack", trained)))
    assert torch.equal(loop.evaluation.network.mean, state["mean"]) and torch.equal(loop.evaluation.network.std, state["std"])


def opened(runs: Path, run_id: str) -> tuple[Session, Any]:
    """Return the parts of a loop at the start of an attempt."""
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    return session, prepare(session)
