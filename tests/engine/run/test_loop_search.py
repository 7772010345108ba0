"""The search loop with every method: stages, resuming inside each, and no attack results without an attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import requests
from engine.configuring import build, recorded
from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.splits import splits_of
from engine.errors import StopRequested
from engine.files import atomic_write_json
from engine.run import loop_search
from engine.run.folder import RunFolder
from engine.run.preparation import prepare
from engine.run.session import Session
from engine.search.methods.registry import METHODS
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, last
from tests.engine.run.test_resume import same

# Epochs enough for every stage.
SEARCHES: dict[str, dict[str, Any]] = {
    "arnas": {"epochs": 2}, "dsara": {"epochs": 4, "steps_per_epoch": 2, "switch_epoch": 1}, "darts": {"epochs": 2},
    "advrush": {"epochs": 4, "warmup_epochs": 2}, "pcdarts": {"epochs": 3, "steps_per_epoch": 2}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("loop_search") / "runs")


def submit(runs: Path, method: str) -> str:
    return requests.submit(runs, "search", SEARCHES.get(method, {}), method=method, preset="smoke")[0]


@pytest.fixture(scope="module")
def whole_searches(runs: Path) -> dict[str, str]:
    """One uninterrupted search of each method."""
    ids = {name: submit(runs, name) for name in METHODS}
    for run_id in ids.values():
        attempt(runs, run_id)
    return ids


# Of DSARA: a step of stage 1 takes 10 passes, the four of them 40, a step of stage 2 takes 13.
# Passes at which a search is stopped: in its first step and in its second; E2RNAS takes six a step. PC-DARTS takes two in its
# warm-up, then three.
# Of random search: a step of training takes 4, one of measuring 5; each of its two candidates has two of both.
STOPS = {"e2rnas": (1, 5, 11), "pcdarts": (1, 4, 5, 9), "random_search": (1, 6, 9, 15, 19, 24, 28, 36)}


def stops() -> Iterator[Any]:
    """Yield every method with each of its stops. The stops inside a later step, one per method and stage, are the likeliest to
    break a resume; the others are slow tests."""
    kept = {"e2rnas": (5,), "pcdarts": (5,), "random_search": (9, 28), "dsara": (15, 60)}
    for name in METHODS:
        for stop_at in (*STOPS.get(name, (1, 8, 15)), *((36, 42, 60) if name == "dsara" else ())):
            yield pytest.param(name, stop_at, marks=[] if stop_at in kept.get(name, (15,)) else [pytest.mark.slow])


@pytest.mark.parametrize(("name", "stop_at"), list(stops()))
def test_a_search_of_every_method_resumes_bit_for_bit(runs: Path, whole_searches: dict[str, str], name: str,
                                                      stop_at: int) -> None:
    run_id = submit(runs, name)
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, stop_at)
    attempt(runs, run_id, 2)
    same(last(runs, whole_searches[name]), last(runs, run_id))
    kept = [{(event["event"], event["step"]): {key: value for key, value in event.items() if key not in ("t", "attempt")}
             for event in events_of(runs, one) if event["event"] in ("objectives", "candidate", "genotype")}
            for one in (whole_searches[name], run_id)]
    assert kept[0] == kept[1]
    results = [{path.name: path.read_bytes() for path in (runs / one / "results").iterdir() if path.name != "ended.json"}
               for one in (whole_searches[name], run_id)]
    assert results[0] == results[1] and "genotype.json" in results[0]


def test_out_of_distribution_images_are_the_same_after_a_resume(runs: Path) -> None:
    asked = {"added_objectives": ("out_of_distribution",), "epochs": 3, "steps_per_epoch": 2, "batch_size": 40, "attack_steps": 1,
             "unrolled": False}
    ids = [requests.submit(runs, "search", asked, method="arnas", preset="smoke")[0] for _ in range(2)]
    attempt(runs, ids[0])
    for number, stop_at in ((1, 10), (2, 15)):
        with pytest.raises(StopRequested):
            attempt(runs, ids[1], number, stop_at)
    attempt(runs, ids[1], 3)
    same(last(runs, ids[0]), last(runs, ids[1]))
    losses = [[event["losses"][2] for event in events_of(runs, one) if event["event"] == "objectives"] for one in ids]
    assert len(losses[0]) == 6 and all(loss > 0 for loss in losses[0]) and set(losses[1]) == set(losses[0])


def test_stages_are_told_with_each_step_and_in_the_progress(runs: Path, whole_searches: dict[str, str]) -> None:
    events = events_of(runs, whole_searches["dsara"])
    first, second = ("Stage 1 of 2: adversarial loss only, until epoch 2",
                     "Stage 2 of 2: natural and adversarial loss, since epoch 3")
    steps = [(event["epoch"], event["stage"], event["names"]) for event in events if event["event"] == "objectives"]
    both = ["natural", "adversarial"]
    assert steps == [(1, first, both[1:])] * 2 + [(2, first, both[1:])] * 2 + [(3, second, both)] * 2 + [(4, second, both)] * 2
    details = [event["detail"] for event in events if event["event"] == "progress"]
    assert f"{first}. PGD step 1 of 2, weights batch" in details
    assert not [event for event in events_of(runs, whole_searches["arnas"]) if "stage" in event]


def test_what_a_method_does_not_measure_is_not_written(runs: Path, whole_searches: dict[str, str]) -> None:
    events = events_of(runs, whole_searches["darts"])
    metrics = [event for event in events if event["event"] == "metric"]
    assert {frozenset(event["values"]) for event in metrics if event["split"] == "alphas"} == {
        frozenset({"natural_loss", "natural_accuracy"})}
    assert all(not any("adversarial" in name for name in event["values"]) for event in metrics)
    alpha = next(event for event in events if event["event"] == "alpha")
    assert alpha["primitives"][0] == "none" and {len(row) for row in alpha["alpha"]} == {8}
    assert {event["cell"] for event in events if event["event"] == "alpha"} == {"normal", "reduce"}


def test_a_search_older_than_a_setting_goes_on_as_it_began(runs: Path) -> None:
    """Its record has no normalisation setting, and today's default for DARTS differs from that of the time."""
    whole, cut = (requests.submit(runs, "search", {"epochs": 2, "normalise": False}, method="darts", preset="smoke")[0]
                  for _ in range(2))
    attempt(runs, whole)
    with pytest.raises(StopRequested):
        attempt(runs, cut, 1, 8)
    folder = RunFolder(runs, cut)
    run = folder.read_run()
    assert run["config"].pop("normalise") is False and run["config"].pop("cutout") == 0
    atomic_write_json(folder.run_json, run)
    attempt(runs, cut, 2)
    same(last(runs, whole), last(runs, cut))


def loop_of(runs: Path, **changes: Any) -> loop_search.SearchLoop:
    """Return the loop of a DARTS search that has not started, with unaugmented images."""
    asked = {"images": None, "crop_padding": 0, "flip": False, "steps_per_epoch": None, "batch_size": 100, "epochs": 3}
    (run_id,) = requests.submit(runs, "search", asked | changes, method="darts", preset="smoke")
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    loop = loop_search.SearchLoop(session, prepare(session))
    session.close()
    return loop


def test_ahead_the_schedule_is_that_of_a_scheduler_advanced_before_the_epoch(runs: Path) -> None:
    """The released code calls scheduler.step() before the epoch; compares with PyTorch's scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.025)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3, eta_min=0.001)
    published, ahead = (build("search", "darts", "digits", "paper", {"epochs": 3, "schedule_ahead": on}) for on in (False, True))
    for epoch in range(3):
        assert loop_search.learning_rate(published, epoch) == pytest.approx(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
        assert loop_search.learning_rate(ahead, epoch) == pytest.approx(scheduler.get_last_lr()[0])
    assert published.deviations() == [] and ahead.deviations() == ["learning rate one epoch ahead"]


def test_fresh_alphas_batches_are_the_first_of_a_shuffle_at_every_step(runs: Path) -> None:
    once, fresh = loop_of(runs), loop_of(runs, alphas_batches="fresh")
    steps = range(once.starts[1])
    (one_pass, weights), (repeated, same_weights) = (
        [torch.cat([loop._chosen(split, 0, position) for position in steps]) for split in ("alphas", "weights")]
        for loop in (once, fresh))
    assert one_pass.unique().numel() == len(one_pass) == len(once.other_split[1])
    assert torch.equal(weights, same_weights)
    for position in steps:
        generator = generator_for(fresh.config.seed, "order", "alphas", 0, position)
        shuffled = torch.randperm(len(fresh.other_split[1]), generator=generator)
        assert torch.equal(fresh._chosen("alphas", 0, position), shuffled[:100])
        assert fresh._chosen("alphas", 0, position).unique().numel() == 100
    assert repeated.unique().numel() < len(repeated)
    assert fresh.config.deviations()[-1] == "fresh alphas batches"


def test_halves_in_file_order_are_the_first_and_the_second_half_of_the_same_images(runs: Path) -> None:
    dealt, halved = loop_of(runs), loop_of(runs, halves="file_order")
    images, _ = DATASETS["digits"].load()
    splits = splits_of("digits", dealt.config.split_seed)
    both = sorted([*splits.weights, *splits.alphas])
    middle = len(splits.weights)
    assert torch.equal(halved.weights_split[0][...], torch.from_numpy(images[both[:middle]]))
    assert torch.equal(halved.other_split[0][...], torch.from_numpy(images[both[middle:]]))
    assert torch.equal(dealt.weights_split[0][...], torch.from_numpy(images[splits.weights]))
    assert halved.config.deviations()[-1] == "halves in file order"


def test_an_older_sum_of_e2rnas_goes_on_as_the_plain_sum() -> None:
    config = build("search", "e2rnas", changes={"weighting": "sum"})
    older = {name: value for name, value in config.model_dump().items() if name != "halves"}
    run = {"kind": "search", "method": "e2rnas"}
    assert recorded(run | {"config": config.model_dump()}).weighting == "sum"
    assert recorded(run | {"config": older}).weighting == "plain_sum"


@pytest.mark.parametrize("normalise", [True, False])
def test_each_dataset_is_normalised_by_its_own_numbers(runs: Path, normalise: bool) -> None:
    run_id = requests.submit(runs, "search", {"normalise": normalise}, method="e2rnas2021", preset="smoke")[0]
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    loop = loop_search.SearchLoop(session, prepare(session))
    x, given = loop.second.batch(0, 0), loop._second_batch(0, 0)
    session.close()
    if not normalise:
        assert torch.equal(x, given) and loop.second_statistics is None
        return
    (mean,), (std,) = loop.second_statistics
    assert torch.allclose(loop.supernet._pixels(given), (x - mean) / std, atol=1e-5)
    assert loop.second_statistics != loop.statistics and not torch.allclose(x, given, atol=1e-2)


def test_a_search_normalises_with_the_weights_split_and_blanks_with_its_mean(runs: Path) -> None:
    run_id = requests.submit(runs, "search", {"cutout": 4, "crop_padding": 0}, method="darts", preset="smoke")[0]
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    session = Session(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.open_events()
    loop = loop_search.SearchLoop(session, prepare(session))
    pixels = loop.weights_split[0][...]
    mean = pixels.mean().item()
    assert loop.statistics is not None and loop.statistics.mean == pytest.approx((mean,))
    x, _ = loop._batch("weights", 0, 0)
    blanked = (x == torch.tensor(loop.statistics.mean)).flatten(1).sum(1)
    assert ((blanked >= 4) & (blanked <= 16)).all() and (loop.supernet._pixels(x) == 0).flatten(1).sum(1).equal(blanked)
    session.close()


def test_a_warm_up_moves_the_weights_alone(runs: Path, whole_searches: dict[str, str]) -> None:
    events = events_of(runs, whole_searches["pcdarts"])
    steps = {name: [event["step"] for event in events if event["event"] == name] for name in ("objectives", "genotype")}
    assert steps == {"objectives": [3, 4, 5, 6], "genotype": [0, 2, 4, 6]}
    splits = [(event["step"], event["split"]) for event in events if event["event"] == "metric"]
    assert [step for step, split in splits if split == "weights"] == [1, 2, 3, 4, 5, 6]
    assert [step for step, split in splits if split == "alphas"] == [3, 4, 5, 6]
    for name in ("alpha", "beta"):
        found = {event["step"]: event[name] for event in events if event["event"] == "alpha" and event["cell"] == "normal"}
        assert found[0] == found[1] == found[2] != found[3] and len(found[0]) == 14
    assert not [event for event in events_of(runs, whole_searches["darts"]) if "beta" in event]
    details = [event["detail"] for event in events if event["event"] == "progress"]
    assert any(detail.startswith("Warm-up: weights only, until epoch 1.") for detail in details)
    assert any(detail.startswith("Search: weights and architecture, since epoch 2.") for detail in details)
