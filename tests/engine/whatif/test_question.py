"""What-if questions: counts on the select split, equal in every process, kept until the checkpoint changes, and refusals."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.architecture.swaps import read_swap, swapped
from engine.cli.verbs import main
from engine.data.catalogue import DATASETS
from engine.data.splits import splits_of
from engine.errors import GenotypeError, RunError
from engine.run.folder import RunFolder
from engine.run.lineage import found_genotype
from engine.whatif import job, question
from engine.whatif.question import MOST_IMAGES, Answer, Question, answered, known, prepare, problem_of
from tests.engine.run.processes import until, without_supervisor
from tests.engine.whatif.searches import real_search


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield without_supervisor(tmp_path_factory.mktemp("whatif") / "runs")
    question._standby.close()


@pytest.fixture(scope="module")
def search(runs: Path) -> str:
    return real_search(runs, images=100)


@pytest.fixture(scope="module")
def pair(runs: Path, search: str) -> tuple[Genotype, Genotype]:
    found = found_genotype(runs, search)
    return found, swapped(found, [read_swap("robust.3.none"), read_swap("accurate.0.none")])


def measured(runs: Path, search: str, genotypes: tuple[Genotype, ...], limit_s: float = 60.0) -> list[Answer]:
    answers: list[Answer] = []
    job.measure(job.load(RunFolder(runs, search)), genotypes, limit_s, answers.append)
    return answers


def test_a_process_of_its_own_gives_the_counts_and_they_are_kept(runs: Path, search: str,
                                                                 pair: tuple[Genotype, Genotype]) -> None:
    asked = Question(search, pair)
    assert known(runs, asked) is None
    answer = answered(runs, asked, limit_s=60.0)
    assert answer == measured(runs, search, pair)[-1]
    assert [counts.images for counts in answer.counts] == [100, 100]
    assert (answer.dataset, answer.epsilon, answer.steps) == ("digits", 0.15, 10)
    assert all(0 <= one.adversarial_correct <= one.natural_correct <= 100 for one in answer.counts)
    (kept,) = (runs / "control" / "whatif").iterdir()
    stamp = kept.stat().st_mtime_ns
    assert known(runs, asked) == answer == answered(runs, asked, limit_s=60.0) and kept.stat().st_mtime_ns == stamp
    checkpoint = RunFolder(runs, search).checkpoint / "last.pt"
    os.utime(checkpoint, ns=(checkpoint.stat().st_atime_ns, checkpoint.stat().st_mtime_ns + 1))
    assert known(runs, asked) is None  # the search went on, so its weights may be others


def test_only_the_select_split_is_read(runs: Path, search: str, pair: tuple[Genotype, Genotype],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    load = job.load_split

    def watched(dataset: object, splits: object, name: object) -> object:
        asked.append(name)
        return load(dataset, splits, name)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "load_split", watched)
    answers = measured(runs, search, (pair[0], pair[0]))
    assert asked == ["select"] and answers[-1].counts[0] == answers[-1].counts[1]
    assert answers[-1].counts[0].images == min(MOST_IMAGES, len(splits_of(DATASETS["digits"], 0, 100).select))


def test_at_the_time_limit_the_answer_covers_fewer_images(runs: Path, search: str, pair: tuple[Genotype, Genotype]) -> None:
    (answer,) = measured(runs, search, pair, limit_s=0.0)
    assert answer.counts[0].images == 50  # one of two batches of equal size


def test_questions_without_an_answer_are_refused_in_a_sentence(runs: Path, search: str, pair: tuple[Genotype, Genotype],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem_of(runs, search, pair[0]) == ""
    assert "has the cells accurate, reduce, robust." in problem_of(runs, search, find_genotype("DARTS_V2"))
    wide = pair[0].with_operation("robust", 0, "sep_conv_7x7")
    with pytest.raises(GenotypeError, match="No supernet contains its robust cell.*retrain the architecture"):
        answered(runs, Question(search, (pair[0], wide)))
    with pytest.raises(GenotypeError, match="There is no run|no such run|does not exist"):
        answered(runs, Question("20261118-0906-arnas-digits-0000", pair))
    copy = "20261118-0906-arnas-digits-0001"
    shutil.copytree(runs / search, runs / copy)
    record = (runs / copy / "run.json").read_text(encoding="utf-8").replace(search, copy)
    (runs / copy / "run.json").write_text(record, encoding="utf-8")
    (runs / copy / "checkpoint" / "last.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match="last.pt"):
        answered(runs, Question(copy, pair))
    (runs / copy / "checkpoint" / "last.pt").unlink()
    assert "no checkpoint" in problem_of(runs, copy, pair[0]) and known(runs, Question(copy, pair)) is None
    question._standby.close()
    monkeypatch.setattr(question._standby, "module", "engine.whatif.absent")
    with pytest.raises(RunError, match="must be measured within .* s, and it was not .*absent"):
        answered(runs, Question(search, (pair[1],)))


def test_the_command_prints_sizes_and_accuracies(runs: Path, search: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["whatif", search, "--swap", "robust.3.none", "--runs", str(runs)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["split"] == "select" and told["inherited"] and told["changed"]["images"] == 100
    assert told["changed"]["parameters"] < told["unchanged"]["parameters"]
    assert Genotype.from_dict(told["changed"]["genotype"]).cell("robust").edges[3][0] == "none"
    assert main(words) == 0  # the kept answer
    printed = capsys.readouterr().out
    assert "Accuracies with inherited weights, not a result: select split of Digits" in printed and "PGD-10 " in printed
    assert main(["whatif", search, "--swap", "robust.9", "--runs", str(runs)]) == 2
    assert "A swap must be CELL.EDGE.OPERATION" in capsys.readouterr().err


def test_the_process_stands_by_for_further_questions_and_ends_when_idle(runs: Path, search: str,
                                                                        pair: tuple[Genotype, Genotype],
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    standby = question._standby
    standby.close()
    prepare(runs, search)
    process = standby._process
    assert process is not None and process.is_alive
    answers = [answered(runs, Question(search, (one, pair[1])), limit_s=60.0) for one in pair]
    assert standby._process is process and answers[0].counts[1] == answers[1].counts[0] == answers[1].counts[1]
    monkeypatch.setattr(standby, "idle_s", 0.05)
    prepare(runs, search)
    assert standby._process is process  # it was not started again
    until(lambda: not process.is_alive, "the idle process has ended")
