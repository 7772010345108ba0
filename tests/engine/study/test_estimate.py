"""The estimate of the time left of a study, from simulated durations and from the real ones of the example."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.study_estimate import replay
from engine.configuring import preset_values
from engine.run.folder import RunFolder
from engine.study import actions
from engine.study.archive import EXAMPLE, read_archive
from engine.study.estimate import COUNTED, Durations, Job, estimate, makespan, slowness
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.parsing import from_text
from engine.study.planning import plan_of
from engine.study.questions import recipes
from tests.engine.run.processes import without_supervisor
from tests.sample_runs import EventsFile, write_process
from tests.sample_studies import finish_run

STUDY = """
question: How long does it take?
dataset: digits
preset: smoke
search_seeds: 4
retrainings: 2
arms:
  - {name: Cells, method: arnas}
  - {name: Published, retrain: {genotype: ADVRUSH}}
  - {name: Hand-made, retrain: {network: wide-resnet-10-1}}
"""
SECONDS = {"search": 300.0, "retrain": 60.0, "attack": 120.0}  # an attack on the hand-made network takes four times as long
SLOTS = 2


@dataclass(frozen=True)
class Slot:
    """One run in a schedule: its id, start and end in seconds from the launch of the study."""

    run: str
    start: float
    end: float


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A runs folder with a study whose runs are all launched and wait, and the id of the study."""
    runs = without_supervisor(tmp_path_factory.mktemp("estimate") / "runs")
    study_id = actions.launch(runs, from_text(STUDY))
    while actions.advance(runs, study_id):
        pass
    return runs, study_id


def schedule(runs: Path, study_id: str, seed: int) -> list[Slot]:
    """Return a schedule of all runs on `SLOTS` slots in the order of their launch, with durations that vary by 20 %."""
    generator, free, ends = np.random.default_rng(seed), [0.0] * SLOTS, {"": 0.0}
    slots, waiting = [], Runs(runs).of_study(study_id)
    while waiting:
        slot = free.index(min(free))
        ready = [one for one in waiting if ends.get(one.parent, np.inf) <= free[slot]]
        if not ready:  # the slot idles until the next run ends
            free[slot] = min(end for end in ends.values() if end > free[slot])
            continue
        waiting.remove(ready[0])
        folder = RunFolder(runs, ready[0].id).read_run()
        slow = 4 if folder["kind"] == "attack" and folder["study"]["arm"] == "Hand-made" else 1
        end = free[slot] + SECONDS[folder["kind"]] * slow * float(generator.lognormal(0, 0.2))
        slots.append(Slot(ready[0].id, free[slot], end))
        free[slot] = ends[ready[0].id] = end
    return slots


def write_moment(runs: Path, slots: list[Slot], now: float) -> None:
    """Write the runs folder as it is at one moment of a schedule: finished, running and waiting runs."""
    process = psutil.Process(os.getpid())
    for slot in slots:
        if slot.end <= now:
            finish_run(runs, slot.run, start=slot.start, seconds=slot.end - slot.start)
        elif slot.start <= now:
            folder = RunFolder(runs, slot.run)
            events = EventsFile(folder.path, t=folder.read_run()["created"])
            events.write("progress", phase="", done=now - slot.start, total=slot.end - slot.start, unit="steps", passes=1,
                         detail="")
            write_process(folder.path, events, pid=process.pid, started=process.create_time())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("share", [1 / 3, 2 / 3])
def test_after_the_first_third_the_estimate_is_right_within_a_quarter(launched: tuple[Path, str], tmp_path: Path, seed: int,
                                                                      share: float) -> None:
    runs, study_id = tmp_path / "runs", launched[1]
    shutil.copytree(launched[0], runs)
    slots = schedule(runs, study_id, seed)
    total = max(slot.end for slot in slots)
    write_moment(runs, slots, share * total)
    study = StudyFolder(runs, study_id).read()
    left = estimate(study, Durations(runs), plan_of(runs, study).cells, runs, SLOTS)
    assert left.measured and left.seconds == pytest.approx((1 - share) * total, rel=0.25)


def test_the_real_durations_of_an_example_study_are_estimated_within_a_quarter(tmp_path: Path) -> None:
    """The other example study ran while other work made the machine slower at first, which no estimate can foresee."""
    read_archive(tmp_path, EXAMPLE)
    (space,) = [one for one in study_ids(tmp_path) if "-space-" in one]
    for share in (1 / 3, 2 / 3, 0.8):
        moment = replay(tmp_path, space, share)
        assert moment.estimated == pytest.approx(moment.real, rel=0.25)


def test_a_mean_of_old_runs_gives_way_to_the_newest(launched: tuple[Path, str], tmp_path: Path) -> None:
    """After three runs at the new speed of the machine, the estimate has forgotten the old one."""
    runs, study_id = tmp_path / "runs", launched[1]
    shutil.copytree(launched[0], runs)
    searches = [one.id for one in Runs(runs).of_study(study_id) if one.kind == "search"]
    study = StudyFolder(runs, study_id).read()
    config = study.configurations(study.arm("Cells"))["search"]
    for count, (run, seconds) in enumerate(zip(searches, (400, 100, 100, 100), strict=True)):
        finish_run(runs, run, start=1000 * count, seconds=seconds)
    assert Durations(runs).of("search", "arnas", "smoke", config) == (pytest.approx(100, rel=0.1), True)


def test_a_machine_of_constant_speed_is_never_slower() -> None:
    assert slowness([]) == [] and slowness([("search", 7.0)]) == [1.0]
    assert slowness([("search", 100.0), ("attack", 30.0)] * 6) == pytest.approx([1.0] * 12)


def test_a_kind_of_run_that_other_runs_have_outdated_is_converted_to_the_present_speed() -> None:
    """The search was measured at half the speed, which is known from retrainings and attacks before and after it."""
    slow, fast = [("retrain", 60.0), ("attack", 120.0)] * 5, [("retrain", 30.0), ("attack", 60.0)] * 5
    factors = slowness([*slow, ("search", 300.0), *fast])
    assert factors[0] == pytest.approx(2, rel=0.1) and factors[-1] == 1
    assert 300 / factors[10] == pytest.approx(300 / np.sqrt(2), rel=0.25), "its own time lies in the middle of the change"
    assert slowness([("search", 300.0), *slow, *fast])[0] == pytest.approx(2, rel=0.15)


def test_only_the_newest_runs_determine_the_speed() -> None:
    factors = slowness([("search", 900.0)] * 10 + [("search", 100.0)] * COUNTED)
    assert len(factors) == COUNTED + 10 and factors == pytest.approx([1.0] * len(factors))


@pytest.mark.parametrize(("slots", "seconds"), [(1, 10), (2, 6), (3, 6)])
def test_jobs_fill_the_slots_in_their_order_and_wait_for_their_parents(slots: int, seconds: float) -> None:
    jobs = [job("A", 3), job("B", 3, after="A"), job("C", 2), job("D", 2)]
    assert makespan(jobs, slots) == seconds


def test_running_jobs_come_first_and_a_last_chain_is_not_divided() -> None:
    jobs = [job("next", 4), job("running", 6, is_running=True), job("last", 5, after="next"), job("very last", 1, after="last")]
    assert makespan(jobs, 1) == 16 and makespan(jobs, 2) == 10 and makespan([], 2) == 0


def job(name: str, seconds: float, *, after: str | None = None, is_running: bool = False) -> Job:
    return Job(name, after, seconds, True, ("search", "arnas", "digits"), is_running)


@pytest.mark.parametrize("name", recipes())
def test_a_demonstration_on_digits_takes_at_most_20_minutes_on_two_cores(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name]
    study = recipe.study("demo", "digits", source="mnist5k" if recipe.needs_source else "")
    needed = estimate(study, Durations(tmp_path), slots=2)
    assert not needed.measured and needed.seconds is not None and needed.seconds <= 20 * 60


def test_a_demonstration_never_makes_a_run_longer_than_its_preset() -> None:
    for dataset in ("digits", "mnist5k"):
        (arm, *_) = recipes()["objective"].study("demo", dataset).arms
        for kind, changes in (("search", arm.search), ("retrain", arm.retrain)):
            assert changes["epochs"] <= preset_values(kind, arm.method if kind == "search" else None, dataset, "quick")["epochs"]


def test_a_slow_hand_made_network_does_not_count_for_networks_of_cells(launched: tuple[Path, str], tmp_path: Path) -> None:
    runs, study_id = tmp_path / "runs", launched[1]
    shutil.copytree(launched[0], runs)
    study = StudyFolder(runs, study_id).read()
    cells = study.configurations(study.arm("Cells"))["retrain"]
    hand_made = study.configurations(study.arm("Hand-made"))["retrain"]
    retrainings = {arm: [one.id for one in Runs(runs).of_study(study_id)
                         if one.kind == "retrain" and RunFolder(runs, one.id).read_run()["study"]["arm"] == arm]
                   for arm in ("Hand-made", "Published")}
    for count, run in enumerate(retrainings["Hand-made"][:3]):
        finish_run(runs, run, start=1000 * count, seconds=900)
    assert Durations(runs).of("retrain", None, "smoke", cells) == (pytest.approx(900, abs=1), True)  # better than nothing
    finish_run(runs, retrainings["Published"][0], start=10, seconds=60)
    durations = Durations(runs)
    assert durations.of("retrain", None, "smoke", cells) == (pytest.approx(60, abs=1), True)
    assert durations.of("retrain", None, "smoke", hand_made) == (pytest.approx(900, abs=1), True)
