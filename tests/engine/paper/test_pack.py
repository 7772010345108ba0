"""The paper pack: which files it has, that its methods state only recorded numbers, and that its figures are vectors."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.architecture.catalogue import find_genotype
from engine.cli import main
from engine.config import pixels_text
from engine.data.catalogue import DATASETS
from engine.drawing.cell import cell_svg
from engine.drawing.printing import printable, svg_bytes
from engine.errors import ConfigError, RunError
from engine.log import snapshot
from engine.paper.pack import family, paper_pack
from engine.paper.pdf import WIDTHS, pdf_bytes
from tests.engine.run.processes import without_supervisor
from tests.sample_runs import write_sample_runs
from tests.sample_studies import write_sample_studies

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
# Numbers of the sentences themselves: names of an interval, of a range and of the dataset.
CONSTANT = ("95 % Wilson interval", "pixels in 0 to 1", DATASETS["digits"].title)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, bytes]]:
    """A folder of sample runs, their ids by role, and the files in the pack of the finished search."""
    root = tmp_path_factory.mktemp("runs")
    ids = write_sample_runs(root)
    return root, ids, opened(paper_pack(root, [ids["search"]]))


def opened(content: bytes) -> dict[str, bytes]:
    """Return the files of a pack by name."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    return {name: archive.read(name) for name in archive.namelist()}


def leaves(value: Any) -> Iterator[Any]:
    """Yield all texts and numbers inside a JSON value, keys among them."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def recorded_numbers(root: Path, runs: list[str]) -> set[str]:
    """Return every number that the files of runs record, in the ways in which Rampart prints a number."""
    found: set[str] = set()
    for run in runs:
        files = [root / run / name for name in ("run.json", "environment.json")]
        texts = [path.read_text() for path in files if path.exists()]
        for text in [*texts, *(root / run / "events.jsonl").read_text().splitlines()]:
            for leaf in leaves(json.loads(text)):
                words = [str(leaf)]
                if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
                    words += [f"{leaf:,}", f"{100 * leaf:.1f}", f"{leaf:g}", pixels_text(leaf) if 0 < leaf < 1 else ""]
                found |= {number for word in words for number in NUMBER.findall(word)}
    return found


def unrecorded(text: str, numbers: set[str]) -> list[str]:
    """Return the numbers of a text that are not recorded."""
    for words in CONSTANT:
        text = text.replace(words, "")
    return [one for one in NUMBER.findall(text) if one.rstrip(",") not in numbers]


def test_every_number_of_the_methods_is_in_the_run_log(chain: tuple[Path, dict[str, str], dict[str, bytes]]) -> None:
    root, ids, files = chain
    numbers = recorded_numbers(root, [ids["search"], ids["retrain"], ids["attack"]])
    text = files["methods.md"].decode()
    assert len(NUMBER.findall(text)) > 60 and not unrecorded(text, numbers)
    assert unrecorded("after 987654 epochs", numbers) == ["987654"]
    for words in ("Architectures were searched with ARNAS", "trained from scratch", "41,210 and 1,204,992",
                  "Networks were attacked as follows", "95 % Wilson interval, fingerprint"):
        assert words in text


def test_a_changed_setting_changes_the_methods(tmp_path: Path) -> None:
    ids = write_sample_runs(tmp_path)
    path = tmp_path / ids["retrain"] / "run.json"
    run = json.loads(path.read_text())
    run["config"]["epochs"] = 321
    path.write_text(json.dumps(run))
    assert "321 epochs" in opened(paper_pack(tmp_path, [ids["retrain"]]))["methods.md"].decode()


def test_the_pack_holds_tables_figures_settings_commands_and_hashes(
        chain: tuple[Path, dict[str, str], dict[str, bytes]]) -> None:
    root, ids, files = chain
    runs = [ids["search"], ids["retrain"], ids["attack"]]
    (table,) = [name for name in files if name.startswith("tables/") and name.endswith(".tex")]
    assert rb"\bottomrule" in files[table] and b"fingerprint" in files[table.replace(".tex", ".csv")]
    for run in runs:
        settings = json.loads(files[f"settings/{run}.json"])
        assert settings["settings"] == json.loads((root / run / "run.json").read_text())["config"]
        hashes = json.loads(files["hashes.json"])[run]["files"]
        assert hashes["events.jsonl"] == hashlib.sha256((root / run / "events.jsonl").read_bytes()).hexdigest()
        with snapshot(root) as log:
            command = log.run(run)["command"]
        assert command in files["commands.sh"].decode()
    assert {name for name in files if name.startswith("curves/")} >= {f"curves/{ids['retrain']}-accuracy.pdf",
                                                                      f"curves/{ids['search']}.csv"}
    cells = [name for name in files if name.startswith("cells/") and name.endswith(".pdf")]
    assert len(cells) >= 3 and all(name.replace(".pdf", ".svg") in files for name in cells)
    for name in (table, "methods.tex"):
        assert f"\\input{{{name}}}" in files["paper.tex"].decode()
    for name, content in files.items():
        if name != "README.md":
            assert f"{hashlib.sha256(content).hexdigest()}  {name}" in files["README.md"].decode()
    assert opened(paper_pack(root, [ids["search"]])) == files


def test_a_family_leaves_siblings_out(tmp_path: Path) -> None:
    ids = write_sample_runs(tmp_path)
    with snapshot(tmp_path) as log:
        assert family(log, ids["retrain"]) == [ids["search"], ids["retrain"], ids["attack"]]
        assert family(log, ids["failed"]) == [ids["failed"]]


def test_a_study_brings_its_answer_and_contrasts(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write_sample_studies(without_supervisor(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["paper", ids["demonstration"], "--runs", str(tmp_path), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["file"])
    assert path.name == f"{ids['demonstration']}-paper.zip"
    files = opened(path.read_bytes())
    assert {"tables/study.tex", "tables/study.json", "settings/study.json"} < set(files)
    runs = list(json.loads(files["hashes.json"]))
    assert not unrecorded(files["methods.md"].decode(), recorded_numbers(tmp_path, runs))
    assert b"minus" in files["tables/study.tex"]


def test_wrong_names_are_sentences(tmp_path: Path) -> None:
    ids = write_sample_runs(tmp_path)
    with pytest.raises(RunError, match="There is no study 'nothing'"):
        paper_pack(tmp_path, ["nothing"])
    with pytest.raises(ConfigError, match="'nothing' is no run"):
        paper_pack(tmp_path, [ids["search"], "nothing"])


def test_a_pdf_holds_the_strokes_and_labels_of_its_drawing() -> None:
    """The cross-reference table is right, and the page strokes every edge and prints every label."""
    cell = find_genotype("ARNAS").cell("robust")
    drawing = printable(cell_svg(cell, title="Robust cell"))
    data = pdf_bytes(drawing)
    table = data[int(data.rsplit(b"startxref\n", 1)[1].split()[0]):]
    places = [int(line.split()[0]) for line in table.split(b"\n") if line.endswith(b" n ")]
    assert [data[place:].split(b" obj")[0] for place in places] == [f"{number} 0".encode() for number in range(1, 7)]
    content = zlib.decompress(re.search(rb"stream\n(.*)\nendstream", data, re.DOTALL).group(1)).decode("cp1252")
    assert content.count(" S") == len(cell.edges) + len(cell.concat)
    assert content.count("(sep 5×5)") == 2 * sum(name == "sep_conv_5x5" for name, _ in cell.edges)  # edge, then fill
    assert "(k–1)" in content and len(WIDTHS) == 95
    text = svg_bytes(drawing).decode()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg" and "class=" not in text and "var(" not in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_the_whole_pack(chain: tuple[Path, dict[str, str], dict[str, bytes]], tmp_path: Path) -> None:
    for name, content in chain[2].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, check=False,
                          capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
