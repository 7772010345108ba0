"""The Import page: what can be imported, files that become runs, and refusals that leave nothing behind."""

from __future__ import annotations

import io
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.components.import_items import LARGEST_UPLOAD, flag, named
from app.components.import_result import on_the_page
from app.importing import ROOT, Imports, Item, plain_name
from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.command import program
from engine.exchange.forms import ENDINGS, FORMS, form_of
from engine.log import RunLog
from engine.run.folder import RunFolder, run_ids
from tests.app.pages import component_data, open_page, text_of
from tests.engine.exchange.public_files import printed, search_log

ARNAS, DARTS = find_genotype("ARNAS"), find_genotype("DARTS_V2")
GENOTYPES = f"A = {printed(ARNAS)}\nB = {printed(DARTS)}\n".encode()


def drop(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Put files into the uploader."""
    page.file_uploader[0].set_value([(name, content, "application/octet-stream") for name, content in files])
    return page.run()


def press(page: AppTest) -> AppTest:
    """Click Import and wait until every file has its result."""
    page.button(key="import.go").click().run()
    deadline = time.monotonic() + 60
    while page.session_state["import.work"].running:
        assert time.monotonic() < deadline, "the import did not end"
        time.sleep(0.05)
    return page.run()


def log_of(runs: Path) -> RunLog:
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    return log


def checkpoint(channels: int = 2, genotype: Genotype = DARTS, placement: str = "") -> bytes:
    """Return a file as parallel training with an auxiliary head writes it, prefixes included."""
    import torch

    from engine.space.network import AuxiliaryHead, Network

    network = Network(genotype, channels=channels, layers=4, classes=10, image_shape=(1, 8, 8), placement=placement).state_dict()
    state = {name: value for name, value in network.items() if name not in ("mean", "std")}
    state |= {f"auxiliary_head.{name}": value for name, value in AuxiliaryHead(16, 10, (2, 2)).state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, buffer)
    return buffer.getvalue()


def test_the_empty_page_says_what_can_be_imported(empty: Path) -> None:
    page = open_page("imports")
    text = text_of(page)
    assert not page.exception and page.button(key="import.go").disabled
    for words in ("genotypes.py", "log.txt", "alphas_normal.npy", "model_best.pth.tar", "module.stem.0.weight"):
        assert words in text
    # The first page of all leads there.
    assert any("import" in link.proto.page for link in open_page("runs").get("page_link"))


def test_a_log_becomes_a_run_and_the_page_says_what_was_understood(empty: Path) -> None:
    line = [find_genotype("ADVRUSH"), find_genotype("RACL"), DARTS, DARTS]
    page = drop(open_page("imports"), ("log.txt", search_log(line).encode()))
    assert f"{program()} import ./log.txt" in text_of(page)
    page.text_input(key="import.title").set_value("Night run").run()
    page = press(page)
    [run] = run_ids(empty)
    assert requests.status(empty, run).status == "finished"
    record = RunFolder(empty, run).read_run()
    assert record["title"] == "Night run, imported"
    assert record["command"] == f"{program()} import ./log.txt --title 'Night run' --runs {empty}"
    text = text_of(page)
    assert not page.exception and run in text
    assert "the same as DARTS_V2 in the catalogue" in text
    assert "4, numbered 0 to 3; the genotype changed 2 times, last at epoch 2" in text
    assert DARTS.hash in text and "the file does not say" in text
    assert [data["html"].count("<svg viewBox") for data in component_data(page, "rampart_cell_graph")][0] == 2
    # The same file with the same answers is not imported twice by an impatient click.
    assert page.button(key="import.go").disabled


def test_several_files_at_once_each_answered_alone(empty: Path) -> None:
    curves = io.BytesIO()
    np.save(curves, np.random.default_rng(0).dirichlet(np.ones(8), (3, 14)).astype(np.float32))
    page = drop(open_page("imports"), ("arch.json", ARNAS.to_json().encode()), ("train.log", b"epoch 0\nno cells\n"),
                ("alphas_reduce.npy", curves.getvalue()), ("alphas_normal.npy", curves.getvalue()))
    page = press(page)
    assert not page.exception
    log = log_of(empty)
    runs = log.runs()
    assert sorted(log.run(run)["imported"]["as"] for run in runs["id"]) == ["curves", "genotype"]
    assert text_of(page).count("Refused") == 1 and "is it the log of a search?" in text_of(page)
    # What was refused may be tried again; what was imported is left out.
    assert not page.button(key="import.go").disabled and "2 of 3 files are already imported" in text_of(page)


def test_a_refusal_is_a_sentence_with_the_words_of_the_page_and_leaves_nothing(empty: Path) -> None:
    page = press(drop(open_page("imports"), ("genotypes.py", GENOTYPES)))
    text = text_of(page)
    assert "got 2 (A, B); choose one of them with “Name in the file”" in text.replace("&#x27;", "'")
    assert list(empty.iterdir()) and not run_ids(empty) and not list(empty.glob(".draft*"))
    page.text_input(key="import.name").set_value("B").run()
    page = press(page)
    [run] = run_ids(empty)
    assert RunFolder(empty, run).read_run()["title"] == "B, imported" and "Refused" not in text_of(page)


def test_a_checkpoint_asks_for_dataset_and_genotype_and_becomes_a_network(empty: Path, tmp_path: Path) -> None:
    path = tmp_path / "model best.pth.tar"
    path.write_bytes(checkpoint())
    page = open_page("imports")
    page.segmented_control(key="import.place").set_value("path").run()
    page.text_input(key="import.path").set_value(str(path)).run()
    assert page.button(key="import.go").disabled and "Choose the dataset" in text_of(page)
    page.selectbox(key="import.dataset").set_value("digits").run()
    assert page.button(key="import.go").disabled and "Choose the genotype" in text_of(page)  # a wrong one might fit
    page.selectbox(key="import.catalogue").set_value("DARTS_V2").run()
    page.text_input(key="import.mean").set_value("0.5, half").run()
    assert page.button(key="import.go").disabled and "must be numbers" in text_of(page)
    page.text_input(key="import.mean").set_value("0.5").run()
    page.text_input(key="import.std").set_value("0.25").run()
    page = press(page)
    [run] = run_ids(empty)
    text = text_of(page)
    assert not page.exception and "2 channels, 4 cells" in text and "without auxiliary head" in text
    record = RunFolder(empty, run).read_run()
    assert record["kind"] == "retrain" and record["imported"]["file"] == path.name
    assert "--mean 0.5 --std 0.25" in record["command"]


def test_where_the_cells_of_a_checkpoint_stand_is_asked(empty: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(checkpoint(genotype=find_genotype("ARNAS"), placement="robust_first"))
    page = open_page("imports")
    page.segmented_control(key="import.place").set_value("path").run()
    page.text_input(key="import.path").set_value(str(path)).run()
    page.selectbox(key="import.dataset").set_value("digits").run()
    page.selectbox(key="import.catalogue").set_value("DARTS_V2").run()
    assert all(box.key != "import.placement" for box in page.selectbox)  # one rule only
    page.selectbox(key="import.catalogue").set_value("ARNAS").run()
    assert "Refused" in text_of(press(page)) and not run_ids(empty)  # other shapes than the published rule's
    page.selectbox(key="import.placement").set_value("robust_first").run()
    page = press(page)
    [run] = run_ids(empty)
    assert not page.exception and "--placement robust_first" in RunFolder(empty, run).read_run()["command"]


def test_what_cannot_be_told_by_its_ending_is_asked(empty: Path) -> None:
    page = drop(open_page("imports"), ("genotypes", GENOTYPES))
    assert page.button(key="import.go").disabled and "choose what it is" in text_of(page)
    page.selectbox(key="import.form.genotypes").set_value("genotype").run()
    page.text_input(key="import.name").set_value("A").run()
    assert "--as genotype" in text_of(page)
    press(page)
    assert len(run_ids(empty)) == 1
    page = drop(open_page("imports"), ("genotypes", GENOTYPES), ("log.txt", b""))
    assert "import it alone and choose" in text_of(page) and page.button(key="import.go").disabled
    page = drop(open_page("imports"), ("alphas_normal.npy", b""))
    assert "drop both" in text_of(page) and page.button(key="import.go").disabled


@pytest.mark.parametrize(("path", "words"), [("log.txt", "must begin at the root"), ("~nobody-at-all/log.txt", "at the root"),
                                             (f"/{'x' * 300}.txt", "at the root"), ("/nowhere/log.txt", "No such file"),
                                             ("/dev/zero", "Not a file"), ("/tmp", "Is a directory")])
def test_a_path_that_is_no_file_is_refused(empty: Path, path: str, words: str) -> None:
    page = open_page("imports")
    page.segmented_control(key="import.place").set_value("path").run()
    page.text_input(key="import.path").set_value(path).run()
    if not path.endswith(".txt"):
        page.selectbox(key=f"import.form.{Path(path).name}").set_value("log").run()
    if not page.button(key="import.go").disabled:
        page = press(page)
    assert words in text_of(page) and not page.exception and not run_ids(empty)


def test_an_uploaded_file_is_never_taken_for_a_module(empty: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    content = f"open({str(mark)!r}, 'w').close()\nA = {printed(ARNAS)}\n".encode()
    work = Imports(empty, [Item(name, (f"./{name}",), ((name, lambda: content),)) for name in ("json.py", "engine.py")])
    while work.running:
        time.sleep(0.05)
    assert not mark.exists() and [bool(outcome.run) for outcome in work.outcomes] == [True, True]


def test_stopping_ends_the_process_and_leaves_out_the_rest(empty: Path, tmp_path: Path) -> None:
    asked = threading.Event()

    def slow() -> bytes:
        asked.wait(20)  # so that the stop comes while the upload is put aside
        return ARNAS.to_json().encode()

    work = Imports(empty, [Item("a.json", ("./a.json",), (("a.json", slow),)), Item("b.json", (str(tmp_path / "b.json"),))])
    work.stop()
    asked.set()
    started = time.monotonic()
    while work.running:
        assert time.monotonic() - started < 30
        time.sleep(0.02)
    assert all(outcome.refusal.startswith("Stopped") for outcome in work.outcomes) and not run_ids(empty)


def test_a_file_that_was_written_anew_is_another_import(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("one")
    (before,) = named(str(path)).items
    assert [item.key for item in named(f" {path} ").items] == [before.key]
    path.write_text("another")
    assert [item.key for item in named(str(path)).items] != [before.key]
    assert flag("title", " --as log ") == ["--title=--as log"] and flag("title", " ") == []


def test_the_server_lets_uploads_of_that_size_through() -> None:
    settings = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert settings["server"]["maxUploadSize"] == LARGEST_UPLOAD


def test_names_and_sentences(empty: Path) -> None:
    assert [plain_name(name) for name in ("a/b/log.txt", "C:\\x\\log.txt", "..", "", "a\0b", "-x")] == \
        ["log.txt", "log.txt", "file", "file", "ab", "-x"]
    assert on_the_page("give --as log; choose another one (--runs DIR), --strange 3.") == \
        "give “What it is”: log; choose another one (“RAMPART_RUNS”), --strange 3."
    assert {form_of(f"x{ending.upper()}") for ending in ENDINGS} == set(FORMS) and form_of("genotypes") is None


def test_a_process_that_dies_is_told_without_terminal_colors(empty: Path) -> None:
    work = Imports(empty, [])
    outcome = work._outcome(Item("w.pt", ("w.pt",)), 1, "", "Traceback\n  ...\nRuntimeError: \x1b[1mout of luck\x1b[0m")
    assert outcome.refusal.startswith("The import of w.pt ended with code 1 (RuntimeError: out of luck); nothing was written.")
