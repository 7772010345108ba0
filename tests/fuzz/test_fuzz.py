"""Whatever a user, a file or an address may hold is read or refused with a sentence; no other error ever leaves the readers.

    make test                       # 500 inputs, always the same
    make fuzz                       # 10,000 new ones

Hypothesis makes an input that fails as small as possible and prints it. Add it here as an `@example`, which is tried
every time.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.components.study_text import unpacked
from app.importing import plain_name
from app.launching import from_address, to_address
from app.run_list import View, page_of, saved_address, selected_runs
from app.saved_views import parameters_of
from engine import configuration_file
from engine.architecture.genotype import Genotype
from engine.configuring import build, preset_values
from engine.errors import RampartError
from engine.exchange.imported import import_genotype, import_log, origin_of
from engine.log import snapshot
from engine.run import checkpoint
from engine.run.event_kinds import read
from engine.run.events import encode, parse
from engine.run.folder import RunFolder
from engine.run.state import STATUSES, compute
from engine.study import parsing
from engine.study.archive import EXAMPLE, read_archive
from tests.engine.run.event_examples import EXAMPLES
from tests.fuzz.inputs import damaged, fuzz, json_texts, records, texts, values
from tests.sample_runs import genotype_at, write_finished_chain

KINDS = ("search", "retrain", "attack")
GENOTYPE = genotype_at(3)
CONFIGURATION = {"kind": "search", "method": "arnas", "dataset": "digits", "preset": "smoke", "then": ["retrain", "attack"],
                 "changes": {"epochs": 3, "epsilon": 0.1}, "then_changes": {"retrain": {"epochs": 2}}}
STUDY = {"question": "Which?", "dataset": "digits", "preset": "smoke", "search_seeds": [1, 2], "arms": [
    {"name": "ARNAS", "method": "arnas"}, {"name": "DARTS", "method": "darts", "search": {"epochs": 3}}]}
LOG = f"""11/20 epoch 0 lr 0.1
genotype = {GENOTYPE.to_json()}
train_acc 31.2
"""
ADDRESS_NAMES = ("from", "parent", "kind", "method", "dataset", "preset", "then", "grid.seed", "seed", "epochs", "epsilon",
                 "retrain.lr", "show", "q", "where", "status", "group", "sort", "page", "draft")


@pytest.fixture(scope="module")
def sample() -> Iterator[tuple[Path, str]]:
    """A runs folder with a finished chain, and the id of its search."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        yield runs, write_finished_chain(runs)[0]


@pytest.fixture(scope="module")
def listed(sample: tuple[Path, str]) -> pd.DataFrame:
    """The list of the sample's runs."""
    with snapshot(sample[0]) as log:
        return log.runs()


def told(problem: RampartError) -> None:
    """Assert that a refusal is one readable paragraph that can be printed."""
    text = str(problem)
    assert text.strip() and "Traceback" not in text and len(text) < 5000
    text.encode()


def read_or_refused(read: Callable[[bytes], object], text: bytes) -> None:
    """Assert that a reader accepts a text or refuses it with a sentence."""
    try:
        read(text)
    except RampartError as problem:
        told(problem)


@fuzz
@given(kind=st.sampled_from(KINDS), method=st.sampled_from(["arnas", "darts", None, "\ud800"]), preset=st.sampled_from(
    ["quick", "smoke", "paper", "x"]), dataset=st.sampled_from(["digits", "cifar10", "nothing"]), data=st.data())
def test_settings(kind: str, method: str | None, preset: str, dataset: str, data: st.DataObject) -> None:
    known = list(preset_values(kind, "arnas" if kind == "search" else None, "digits", "quick"))
    changes = data.draw(st.dictionaries(st.sampled_from(known) | texts, values, max_size=4))
    check_settings(kind, method if kind == "search" else None, dataset, preset, changes)


@pytest.mark.parametrize("changes", [{"\ud800": None}, {"9" * 5000: None}])
def test_settings_that_once_failed(changes: dict[str, Any]) -> None:
    check_settings("search", "arnas", "digits", "quick", changes)


def check_settings(kind: str, method: str | None, dataset: str, preset: str, changes: dict[str, Any]) -> None:
    try:
        build(kind, method, dataset, preset, changes)
    except RampartError as problem:
        told(problem)


@fuzz
@given(json_texts(CONFIGURATION))
@example(b"kind: search\nmethod: [")
@example(b'{"kind": "search", "method": "arnas", "then": ["\\ud800"]}')
@example(b"&a [*a]")
def test_configuration_files(text: bytes) -> None:
    read_or_refused(configuration_file.from_text, text)


@fuzz
@given(json_texts(STUDY))
def test_studies(text: bytes) -> None:
    read_or_refused(parsing.from_text, text)


@fuzz
@given(json_texts(GENOTYPE.to_dict()))
def test_genotypes(text: bytes) -> None:
    try:
        genotype = Genotype.from_json(text.decode(errors="surrogateescape"))
    except RampartError as problem:
        told(problem)
    else:
        assert Genotype.from_json(genotype.to_json()) == genotype


@fuzz
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_events(name: str, data: st.DataObject) -> None:
    event = EXAMPLES[name]
    record = json.loads(encode({"event": event.kind, "t": 1.0, "attempt": 1, "step": 1, "epoch": 1, **event.to_json()}))
    line = data.draw(json_texts(record))
    try:
        entry = read(parse(line))
        if entry is not None and hasattr(entry[1], "rows"):
            list(entry[1].rows())
    except RampartError as problem:
        told(problem)


@fuzz
@given(name=st.sampled_from(["run.json", "process.json", "exit.json", "environment.json", "results/ended.json",
                             "control/resume"]), data=st.data())
def test_files_of_a_run(sample: tuple[Path, str], name: str, data: st.DataObject) -> None:
    runs, run_id = sample
    path = runs / run_id / name
    before = path.read_bytes() if path.exists() else None
    content = data.draw(json_texts(json.loads(before) if before else {"attempt": 1, "at": 1.0, "after_attempt": 1}))
    path.parent.mkdir(exist_ok=True)
    try:
        path.write_bytes(content)
        state = compute(RunFolder(runs, run_id))
        assert state.status in STATUSES
        state.cause.encode()
    finally:
        path.unlink()
        if before:
            path.write_bytes(before)


@fuzz
@given(data=st.data())
def test_checkpoints(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz-run" / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "last.pt"
    checkpoint.write(path, {"step": 3, "name": "a", "values": [1.0, None, {"x": (1, 2)}]})
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        state = checkpoint.read(path)
    except RampartError as problem:
        told(problem)
    else:
        assert state["step"] == 3 and state["values"] == [1.0, None, {"x": (1, 2)}]


@fuzz
@given(content=json_texts(GENOTYPE.to_dict()) | damaged(LOG.encode()) | damaged(
    f"ARNAS = Genotype({GENOTYPE.to_dict()!r})\n".encode()), title=texts | st.none(), as_log=st.booleans())
def test_imports(sample: tuple[Path, str], content: bytes, title: str | None, as_log: bool) -> None:
    path = sample[0].parent / "found.txt"
    path.write_bytes(content)
    try:
        origin = origin_of(path, "log" if as_log else "genotype", "rampart import")
        (import_log if as_log else import_genotype)(sample[0].parent / "imported", path, origin, title=title)
    except RampartError as problem:
        told(problem)


@fuzz
@given(name=texts, content=damaged(EXAMPLE.read_bytes()[:4000]) | st.binary(max_size=100))
def test_uploads(sample: tuple[Path, str], name: str, content: bytes) -> None:
    own = plain_name(name)
    assert own and "/" not in own and "\0" not in own and own not in (".", "..")
    path = sample[0].parent / "upload.tar.xz"
    path.write_bytes(content)
    try:
        read_archive(sample[0].parent / "archives", path)
    except RampartError as problem:
        told(problem)
    assert list((sample[0].parent / "archives").iterdir()) == []


def test_an_archive_with_a_damaged_entry_adds_nothing(tmp_path: Path) -> None:
    """The module `tarfile` takes a damaged entry for the end of the archive."""
    data = bytearray(lzma.decompress(EXAMPLE.read_bytes()))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        header = archive.getmembers()[-1].offset
    data[header:header + 512] = b"x" * 512
    (tmp_path / "damaged.tar").write_bytes(data)
    with pytest.raises(RampartError, match="nothing was added"):
        read_archive(tmp_path / "runs", tmp_path / "damaged.tar")
    assert list((tmp_path / "runs").iterdir()) == []


@fuzz
@given(address=st.dictionaries(
    st.sampled_from(ADDRESS_NAMES) | texts, texts | st.integers().map(str) | st.floats().map(str) | st.sampled_from(
        ["search", "retrain", "arnas", "digits", "smoke", "1..3", "1,2", "status == 'failed'"]), max_size=6))
@example(address={"show": "\ud800"})
@example(address={"epsilon": "10E305"})
def test_addresses(sample: tuple[Path, str], listed: pd.DataFrame, address: dict[str, str]) -> None:
    draft, problems = from_address(address, sample[0])
    for sentence in problems:
        sentence.encode(errors="replace")
    again, _ = from_address(to_address(draft), sample[0])
    assert to_address(again) == to_address(draft)
    address = {name: text.encode(errors="replace").decode() for name, text in address.items()}
    view = View.of(address)
    assert View.of(parameters_of(saved_address(address))) == View.of({**address, "page": ""})
    unpacked(address.get("draft", ""))
    try:
        page_of(selected_runs(listed, view), view)
    except RampartError as problem:
        told(problem)


@fuzz
@given(record=records({"where": "status == 'failed' and epochs > 3", "q": "arnas", "sort": "-adversarial"}))
@example(record={"q": "\ud800"})
def test_filters(listed: pd.DataFrame, record: Any) -> None:
    address = {str(name): str(value) for name, value in record.items()} if isinstance(record, dict) else {}
    try:
        urlencode(address, errors="replace")
        selected_runs(listed, View.of(address))
    except RampartError as problem:
        told(problem)
