from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.config.run import KINDS
from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run import documents
from engine.run.folder import RunFolder, new_id, read_json, run_ids

RUN = "20261120-0915-arnas-digits-7f3a"


def test_a_folder_knows_the_kinds_of_run_that_can_be_configured() -> None:
    assert documents.KINDS == KINDS


def test_ids_sort_by_time_and_read_well() -> None:
    early, late = new_id("arnas", "digits", 1_795_000_000), new_id("arnas", "digits", 1_795_000_100)
    assert early < late
    assert early.split("-")[2:4] == ["arnas", "digits"]
    assert RunFolder("runs", new_id("PC_DARTS", "Tiny ImageNet", 0)).id.split("-")[2:6] == ["pc", "darts", "tiny", "imagenet"]


@pytest.mark.parametrize("name", ["../x", "", RUN + "/..", "/etc/passwd", RUN.upper(), RUN + "\n", 7, None])
def test_an_id_that_could_leave_the_folder_is_refused(name: object) -> None:
    with pytest.raises(RunError, match="A run id looks like"):
        RunFolder("runs", name)  # type: ignore[arg-type]


def test_a_write_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        atomic_write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("text", ["{", "[1]", "", "\x00", '{"id": "x"}', '{"id": "x", "kind": "search", "config": 3}'])
def test_a_corrupt_run_json_is_a_sentence(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.path.mkdir()
    folder.run_json.write_text(text)
    with pytest.raises(RunError, match="restore the file or move"):
        folder.read_run()


@pytest.mark.parametrize(("name", "value"), [
    ("id", "20200101-0000-arnas-digits-0000"), ("kind", "serach"), ("kind", ["search"]), ("config", [1]), ("created", "today"),
    ("created", None), ("created", float("nan")), ("split_seed", "2"), ("parent", RUN), ("parent", "../../x"), ("parent", 5),
    ("title", 5), ("schema", 99), ("children_of_chain", 5), ("code", "HEAD"),
    ("packages", []), ("config", {"threads": "many"}), ("config", {"device": 7}), ("config", {"dataset": []})])
def test_a_run_json_that_a_reader_could_not_use_is_a_sentence(tmp_path: Path, name: str, value: object) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.path.mkdir()
    whole = {"schema": 1, "id": RUN, "kind": "search", "config": {}, "created": 1.0, "parent": None, "split_seed": 2}
    folder.run_json.write_text(json.dumps(whole))
    assert folder.read_run() == whole
    folder.run_json.write_text(json.dumps(whole | {name: value}))
    with pytest.raises(RunError, match="restore the file or move|A run id looks like"):
        folder.read_run()


def test_a_file_is_named_with_its_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.results.mkdir(parents=True)
    (folder.results / "genotype.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match=f"results/genotype.json of run {RUN} must be a JSON object"):
        read_json(folder.results / "genotype.json")


def test_only_run_folders_are_runs(tmp_path: Path) -> None:
    for name in (RUN, "control", ".draft-" + RUN, "notes"):
        (tmp_path / name).mkdir()
    assert run_ids(tmp_path) == [RUN]
    assert run_ids(tmp_path / "none") == []


def test_last_lines_of_a_long_log(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.path.mkdir()
    assert folder.last_lines() == []
    folder.log.write_text("".join(f"line {i}\n" for i in range(5000)))
    assert folder.last_lines(2) == ["line 4998", "line 4999"]
