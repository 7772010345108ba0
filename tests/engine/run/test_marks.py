"""Marks of runs and the trash, on folders of sample runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import RunError
from engine.run import trash
from engine.run.bulk import each
from engine.run.folder import RunFolder, run_ids
from engine.run.marks import MARKS, Marks, change_tags, read_marks, readable_marks, set_archived, set_note
from tests.sample_runs import write_sample_runs


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("marks") / "runs"
    return root, write_sample_runs(root)


@pytest.fixture
def runs(written: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "runs"))


@pytest.fixture
def ids(written: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return written[1]


def refusals(outcomes: list[trash.Outcome]) -> dict[str, str]:
    return {one.run: one.refusal for one in outcomes if one.refusal}


def test_tags_note_and_archive_are_kept_beside_run_json(runs: Path, ids: dict[str, str]) -> None:
    before = (runs / ids["search"] / "run.json").read_bytes()
    change_tags(runs, ids["search"], ["b/2", "baseline", "baseline"])
    change_tags(runs, ids["search"], ["c"], ["b/2", "never-there"])
    set_note(runs, ids["search"], " watch the skips\n")
    set_archived(runs, ids["search"], True)
    assert read_marks(RunFolder(runs, ids["search"])) == Marks(("baseline", "c"), "watch the skips", True)
    assert (runs / ids["search"] / "run.json").read_bytes() == before
    assert read_marks(RunFolder(runs, ids["retrain"])) == Marks()


@pytest.mark.parametrize("tag", ["", "two words", "-x", "a,b", "x" * 41, "<b>"])
def test_a_bad_tag_is_refused_with_what_is_allowed(runs: Path, ids: dict[str, str], tag: str) -> None:
    with pytest.raises(RunError, match="1 to 40 letters, digits"):
        change_tags(runs, ids["search"], ["good", tag])
    assert not (runs / ids["search"] / MARKS).exists()


def test_limits_of_marks(runs: Path, ids: dict[str, str]) -> None:
    with pytest.raises(RunError, match="at most 20 tags, .* would have 21"):
        change_tags(runs, ids["search"], [f"t{number}" for number in range(21)])
    with pytest.raises(RunError, match="at most 2,000 characters, got 2,001"):
        set_note(runs, ids["search"], "n" * 2001)
    with pytest.raises(RunError, match="There is no run"):
        set_archived(runs, "20261118-0906-arnas-digits-0000", True)


@pytest.mark.parametrize("content", ['{"tags": "x"}', '{"tags": ["a b"]}', '{"note": 3}', "[]", "{", '{"archived": "no"}'])
def test_a_damaged_file_is_told_when_marking_and_passed_over_in_lists(runs: Path, ids: dict[str, str], content: str) -> None:
    (runs / ids["search"] / MARKS).write_text(content)
    with pytest.raises(RunError, match=r"marks\.json of run"):
        change_tags(runs, ids["search"], ["a"])
    assert readable_marks(RunFolder(runs, ids["search"])) == Marks()


def test_one_bad_run_does_not_stop_the_others(runs: Path, ids: dict[str, str]) -> None:
    asked = [ids["search"], "no id", ids["failed"], ids["search"]]
    done = each(asked, lambda run_id: " ".join(change_tags(runs, run_id, ["x"]).tags))
    assert [(one.run, one.done, bool(one.refusal)) for one in done] == [
        (ids["search"], "x", False), ("no id", "", True), (ids["failed"], "x", False)]


def test_a_run_goes_to_the_trash_and_comes_back_unchanged(runs: Path, ids: dict[str, str]) -> None:
    files = {path.name: path.read_bytes() for path in (runs / ids["failed"]).iterdir() if path.is_file()}
    set_note(runs, ids["failed"], "memory")
    (done,) = trash.put(runs, [ids["failed"]])
    assert done.done.startswith("moved to the trash, ") and ids["failed"] not in run_ids(runs)
    (listed,) = trash.trashed_runs(runs)
    assert (listed.id, listed.title, listed.kind) == (ids["failed"], "ARNAS, images clipped", "search")
    assert listed.size > sum(map(len, files.values())) and listed.trashed > 1.7e9
    assert trash.restore(runs, [ids["failed"]])[0].done == "restored"
    after = {path.name: path.read_bytes() for path in (runs / ids["failed"]).iterdir() if path.is_file()}
    assert after.pop(MARKS) and after == files and trash.trashed_runs(runs) == []


def test_a_run_that_is_not_over_stays(runs: Path, ids: dict[str, str]) -> None:
    (outcome,) = trash.put(runs, [ids["running"]])
    assert f"{ids['running']} is running; stop it first" in outcome.refusal and (runs / ids["running"]).is_dir()


def test_a_run_that_others_need_goes_with_them_or_not_at_all(runs: Path, ids: dict[str, str]) -> None:
    chain = [ids[kind] for kind in ("search", "retrain", "attack")]
    assert trash.dependents(runs, chain[:1]) == sorted(chain[1:])
    assert refusals(trash.put(runs, chain[:1])).keys() == {chain[0]}
    assert set(refusals(trash.put(runs, chain[:2]))) == set(chain[:2])  # the attack stays, so what it needs stays
    assert refusals(trash.put(runs, chain[:1], with_dependents=True)) == {}
    assert {one.id for one in trash.trashed_runs(runs)} == set(chain)
    assert set(refusals(trash.delete(runs, chain[:1]))) == {chain[0]}  # not without the runs in the trash that need it
    assert [one.run for one in trash.restore(runs, [chain[2]])] == chain  # a run comes back with what it needs, that first
    assert set(chain) <= set(run_ids(runs))


def test_a_run_that_another_one_compares_with_is_needed(runs: Path, ids: dict[str, str]) -> None:
    path = runs / ids["failed"] / "run.json"
    record = json.loads(path.read_text())
    record["config"]["inherit_from"] = ids["stopped"]
    path.write_text(json.dumps(record))
    assert trash.dependents(runs, [ids["stopped"]]) == [ids["failed"]]
    assert list(refusals(trash.put(runs, [ids["stopped"]]))) == [ids["stopped"]]


def test_deleting_is_for_runs_in_the_trash_and_frees_their_space(runs: Path, ids: dict[str, str]) -> None:
    (refused,) = trash.delete(runs, [ids["failed"]])
    assert "trash it first" in refused.refusal and (runs / ids["failed"]).is_dir()
    trash.put(runs, [ids["failed"]])
    size = trash.trashed_runs(runs)[0].size
    assert trash.delete(runs, [ids["failed"]])[0].done == f"deleted, {trash.size_text(size)} freed"
    assert not (trash.trash_of(runs) / ids["failed"]).exists()


@pytest.mark.parametrize("run_id", ["../runs", "trash", "", "20261118-0906-arnas-digits-0000"])
def test_no_id_leads_out_of_the_folder(runs: Path, run_id: str) -> None:
    before = sorted(runs.parent.rglob("*"))
    assert all(one.refusal for act in (trash.put, trash.restore, trash.delete) for one in act(runs, [run_id]))
    assert sorted(runs.parent.rglob("*")) == before


@pytest.mark.parametrize(("size", "text"), [(812, "812 bytes"), (1200, "1.2 kB"), (5_250_000, "5.2 MB"), (3e9, "3.0 GB")])
def test_sizes_are_words(size: int, text: str) -> None:
    assert trash.size_text(size) == text
