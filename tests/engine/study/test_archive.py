"""Studies as archives: equal results elsewhere, nothing of the machine inside, hostile files refused, a removable example."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import RunError
from engine.run.folder import RunFolder, run_ids
from engine.study import actions
from engine.study.archive import EXAMPLE, read_archive, remove_example, write_archive
from engine.study.folder import StudyFolder, study_ids
from engine.study.overview import read_overview
from engine.study.parsing import from_text
from tests.engine.run.processes import without_supervisor
from tests.sample_studies import Outcome, finish_study

STUDY = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 2
arms:
  - {name: A, method: arnas}
  - {name: B, retrain: {genotype: ADVRUSH}}
"""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield without_supervisor(tmp_path / "runs")


@pytest.fixture
def packed(runs: Path, tmp_path: Path) -> tuple[str, Path]:
    study_id = actions.launch(runs, from_text(STUDY))
    finish_study(runs, study_id, lambda cell: Outcome(30 + cell.search_seed))
    target = tmp_path / "study.tar.xz"
    assert write_archive(runs, [study_id], target) == 2 * 3 + 2 * 2
    return study_id, target


def test_an_unpacked_study_has_the_same_answer(runs: Path, packed: tuple[str, Path], tmp_path: Path) -> None:
    study_id, source = packed
    elsewhere = tmp_path / "elsewhere"
    assert read_archive(elsewhere, source) == [study_id]
    here, there = read_overview(runs, study_id), read_overview(elsewhere, study_id)
    assert there.answer == here.answer and there.status == "finished"
    assert {name: arm.units for name, arm in there.results.arms.items()} == {name: arm.units
                                                                            for name, arm in here.results.arms.items()}


def test_an_archive_holds_nothing_of_the_machine(runs: Path, packed: tuple[str, Path]) -> None:
    with tarfile.open(packed[1]) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            text = content.read()
            assert str(runs).encode() not in text and b'"boot_id"' not in text, member.name


def test_what_is_there_already_is_kept(packed: tuple[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    read_archive(elsewhere, packed[1])
    mine = RunFolder(elsewhere, run_ids(elsewhere)[0]).path / "note.txt"
    mine.touch()
    read_archive(elsewhere, packed[1])
    assert mine.exists()


def test_the_example_is_marked_taken_by_nobody_and_removed_whole(runs: Path, packed: tuple[str, Path], tmp_path: Path) -> None:
    elsewhere = without_supervisor(tmp_path / "elsewhere")
    (study_id,) = read_archive(elsewhere, packed[1], example=True)
    assert read_overview(elsewhere, study_id).study.example and read_overview(elsewhere, study_id).status == "finished"
    own = actions.launch(elsewhere, from_text(STUDY))
    assert not any(step.run for cell in read_overview(elsewhere, own).results.cells for step in cell.steps)
    remove_example(elsewhere)
    assert study_ids(elsewhere) == [own] and run_ids(elsewhere) == []


def test_an_archive_that_cannot_be_added_whole_adds_nothing(packed: tuple[str, Path], tmp_path: Path) -> None:
    (root := tmp_path / "other").mkdir()
    (root / "studies").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(RunError, match="nothing was added"):
        read_archive(root, packed[1])
    assert [path.name for path in root.iterdir()] == ["studies"]


def test_unpacking_again_says_what_was_there_and_what_was_added(packed: tuple[str, Path], tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    study_id, source = packed
    elsewhere = tmp_path / "elsewhere"

    def unpacked(*flags: str) -> str:
        assert main(["study", "unpack", str(source), "--runs", str(elsewhere), *flags]) == 0
        return capsys.readouterr().out.strip()

    assert unpacked() == study_id
    StudyFolder(elsewhere, study_id).clear("complete")  # as an extension does
    assert unpacked() == f"{study_id}  was there already; nothing changed"
    assert not StudyFolder(elsewhere, study_id).is_complete, "a study that is there still launches its missing runs"
    shutil.rmtree(elsewhere / run_ids(elsewhere)[0])
    assert unpacked() == f"{study_id}  was there already; 1 run added"
    assert json.loads(unpacked("--json")) == {"ids": [study_id], "added": []}


def archive_of(**files: str) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "20261126-0900-arnas-digits-0001/checkpoint/last.pt",
                                  "20261126-0900-arnas-digits-0001/../../outside", "studies/../outside.json", "engine/attack.py"])
def test_a_file_that_no_archive_contains_is_refused(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(RunError, match="no archive of a study contains"):
        read_archive(elsewhere, archive_of(**{name: "content"}))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("kind", "record", "sentence"), [
    ("study", {"question": "Is it\x1b[2J so?"}, r"question of a study must be text in one line.*got 'Is it\\x1b\[2J so"),
    ("study", {"arms": [{"name": "A\nB", "method": "arnas"}]}, r"arms of a study must be text in one line.*got 'A\\nB"),
    ("study", {"attacks": {"L2\u202e": {"norm": "L2"}}}, r"attacks of a study must be text.*got 'L2\\u202e"),
    ("run", {"title": "ARNAS\x07"}, r"title of the run \S+ must be text in one line.*got 'ARNAS\\x07'")])
def test_names_with_control_characters_are_refused(packed: tuple[str, Path], tmp_path: Path, kind: str, record: dict[str, object],
                                                   sentence: str) -> None:
    study_id, source = packed
    contents = {}
    with tarfile.open(source) as archive:
        for member in archive:
            file = archive.extractfile(member)
            contents[member.name] = file.read().decode() if file and member.name.endswith(".json") else ""
    changed = f"studies/{study_id}.json" if kind == "study" else next(name for name in contents if name.endswith("/run.json"))
    contents[changed] = json.dumps(json.loads(contents[changed]) | record)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(RunError, match=sentence) as refusal:
        read_archive(elsewhere, archive_of(**contents))
    assert "nothing was added" in str(refusal.value) and list(elsewhere.iterdir()) == []


def test_a_link_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        entry = tarfile.TarInfo("20261126-0900-arnas-digits-0001/run.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    buffer.seek(0)
    with pytest.raises(RunError, match="nothing was added"):
        read_archive(tmp_path / "elsewhere", buffer)


@pytest.mark.parametrize(("content", "cause"), [
    (b"", "it is no archive"), (b"no archive", "it is no archive"), (b"\xfd7zXZ\x00\x00", "it is (no archive|damaged)"),
    (EXAMPLE.read_bytes()[:3000], "it is damaged or incomplete"), (archive_of().getvalue(), "it contains no study")])
def test_another_file_is_refused_with_its_name_and_the_cause(content: bytes, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "other.tar.xz"
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"{file} cannot be read \({cause}[^:]*\); nothing was added"):
        read_archive(tmp_path / "elsewhere", file)
    with pytest.raises(RunError, match=r"gone.tar.xz cannot be read \(No such file or directory\)"):
        read_archive(tmp_path / "elsewhere", tmp_path / "gone.tar.xz")


def test_a_study_that_runs_cannot_be_packed(runs: Path, tmp_path: Path) -> None:
    study_id = actions.launch(runs, from_text(STUDY))
    actions.advance(runs, study_id)
    with pytest.raises(RunError, match="whose runs have ended"):
        write_archive(runs, [study_id], tmp_path / "study.tar.xz")
    assert not list(tmp_path.glob("*.tar.xz"))


def test_extensions_travel_with_the_study(runs: Path, packed: tuple[str, Path], tmp_path: Path) -> None:
    study_id, _ = packed
    actions.extend(runs, study_id, 1)
    finish_study(runs, study_id)
    target = tmp_path / "extended.tar.xz"
    write_archive(runs, [study_id], target)
    elsewhere = tmp_path / "elsewhere"
    read_archive(elsewhere, target)
    assert StudyFolder(elsewhere, study_id).read().search_seeds == (0, 1, 2)
    assert json.loads((elsewhere / "studies" / study_id / "extend-1.json").read_text())["looked"]
