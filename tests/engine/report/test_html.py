"""HTML pages: complete, escaped, and without any reference outside the file."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from engine.attack.statistics import accuracy_words
from engine.errors import ConfigError, RunLogError
from engine.log import RunLog
from engine.report.curves import training_curves
from engine.report.gallery import Sample, difference, gallery_html, png, read_samples
from engine.report.html import network_report
from engine.report.table_page import to_html
from tests import sample_runs
from tests.engine.report.made_tables import SPECIAL, attacked_runs, distinguished, made_table

VOID = {"meta", "img", "br", "line", "link"}
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "srcset", "poster", "formaction", "background"}


class Page(HTMLParser):
    """A parsed page: its text by section, the addresses it names, and the elements that were not closed."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def checked(content: bytes) -> Page:
    """Return the parsed page after checking that it is well formed and refers to nothing outside itself."""
    page = Page(content)
    assert not page.open and not {"script", "iframe", "link", "object", "embed"} & set(page.tags)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(rb"@import|url\(|https?://[^ ]*\.(js|css|png|svg)", content)
    return page


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[tuple[RunLog, dict[str, str], Path]]:
    """The run log of attacked networks, their ids, and the folder."""
    ids = attacked_runs(tmp_path)
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    yield log, ids, tmp_path
    log.close()


def test_a_report_holds_everything_in_one_file(runs: tuple[RunLog, dict[str, str], Path]) -> None:
    """The report of a network has all its parts, refers to nothing outside, and stays small."""
    log, ids, _ = runs
    content = network_report(log, ids["attack"])
    page = checked(content)
    assert len(content) < 3_000_000
    for title in ("Protocol", "Robustness", "Checks", "Network", "Curves", "Images", "Configuration", "Reproduction"):
        assert f" {title} " in page.text
    assert "48.4 %" in page.text and "36.6 to 60.4" in page.text and "31 of 64" in page.text
    assert "The test split was opened 4 times." in page.text
    order = ("PGD-20", "AutoAttack", "APGD-CE of AutoAttack", "Square of AutoAttack", "Worst case")
    places = [page.text.index(f" {name} ") for name in order]
    assert places == sorted(places)
    assert "More <steps>" in page.text and b"More <steps>" not in content
    assert "PGD-40 broke 3 images more." in page.text and "Reliability: amber." in page.text
    assert ids["search"] in page.text and ids["retrain"] in page.text and f"rampart report {ids['attack']}" in page.text
    assert "Robust cell" in page.text and "epsilon" in page.text and "8/255" in page.text and "torch" in page.text
    assert page.tags.count("img") == 3 * 11  # an image that no attack changed is left out
    assert b"prefers-color-scheme: dark" in content and b"default-src &#x27;none&#x27;" in content


SWEPT = {0.0: 62, 0.05: 50, 0.1: 38, 0.15: 25, 0.3: 2}  # radius -> images of 64 classified correctly


def write_sweep(folder: Path) -> None:
    """Write a sweep by FMN, a mark by APGD-CE, steps by PGD, a median and a certified bound."""
    events = sample_runs.EventsFile(folder)
    events.step = 99
    common = {"norm": "Linf", "images": 64, "fingerprint": "f00"}
    for radius, correct in SWEPT.items():
        events.write("sweep", sweep="epsilon", attack="fmn-40", title="FMN-40", epsilon=radius, steps=40, correct=correct,
                     **common)
    events.write("sweep", sweep="epsilon", attack="apgd-ce-20", title="APGD-CE-20", epsilon=0.15, steps=20, correct=24, **common)
    events.write("sweep", sweep="steps", attack="pgd-steps", title="PGD", epsilon=0.15, steps=7, correct=30, **common)
    events.write("critical", attack="fmn-40", title="FMN-40", norm="Linf", images=64, median=0.125, low=0.1, high=0.14,
                 fingerprint="f00")
    events.write("certified", norm="Linf", epsilon=0.15, images=64, correct=0, low=0.0, high=0.057, method="interval bounds")


def test_a_report_has_the_sweep_the_certified_bound_and_the_verdict(tmp_path: Path) -> None:
    """Each point of the curve is in the chart, with the median, both bounds in words, and the verdict of each network."""
    ids = attacked_runs(tmp_path)
    write_sweep(tmp_path / ids["attack"])
    verdict = sample_runs.write_comparison(tmp_path, parent=ids["resumed"], against=ids["attack"])
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    content = network_report(log, ids["attack"])
    page = checked(content)
    section = page.text.partition(" Sweep ")[2].partition(" Checks ")[0]
    assert content.count(b"<circle") >= len(SWEPT) + 2 and content.count(b"<polygon") == 1
    assert all(f"FMN-40, radius {radius:g}: {accuracy_words(correct, 64)}" in section for radius, correct in SWEPT.items())
    assert "APGD-CE-20, radius 0.15: 37.5 % (26.7 to 49.7), 64 images" in section and "PGD against steps" in section
    assert "Median critical epsilon 0.125 (95 % interval 0.1 to 0.14) in L∞" in section and "half of the 64 images" in section
    assert "Lower bound: 0.0 % (0.0 to 5.7), 64 images." in section and "no sign of a weak network" in section
    assert "Upper bound: 48.4 % (36.6 to 60.4), 64 images" in section
    assert f"Decided after 46 of 360 images: Other ({verdict}) is more robust than ARNAS ({ids['attack']})" in section
    comparing = checked(network_report(log, verdict)).text
    assert "only compares two networks" in comparing and "Decided after 46 of 360 images" in comparing
    log.close()


def test_a_report_takes_the_sweep_of_another_run_on_its_checkpoint(tmp_path: Path) -> None:
    """Without any sweep the report says how to make one; `rampart sweep` is a run of its own."""
    ids = attacked_runs(tmp_path)
    sweep = sample_runs.write_finished_attack(tmp_path, "20261118-0925-attack-digits-7f49", parent=ids["resumed"])
    for swept in (False, True):
        if swept:
            write_sweep(tmp_path / sweep)
        log = RunLog.open(tmp_path, in_memory=True)
        log.ingest()
        text = checked(network_report(log, ids["weak"])).text
        assert ("Median critical epsilon" in text and f"Measured by run {sweep}." in text) == swept
        assert (f"rampart sweep {ids['weak']}" in text) == (not swept)
        assert "rampart sweep" in checked(network_report(log, ids["resnet"])).text, "another network has no part in it"
        log.close()


def test_texts_of_a_report_are_escaped(tmp_path: Path) -> None:
    """A title that is HTML arrives as text."""
    run = sample_runs.write_finished_attack(tmp_path, "20261118-0921-attack-digits-7f42", parent=None)
    path = tmp_path / run / "run.json"
    path.write_text(path.read_text().replace('"title": "ARNAS"', '"title": "<script>alert(1)</script>"'))
    log = RunLog.open(tmp_path, in_memory=True)
    log.ingest()
    content = network_report(log, run)
    log.close()
    assert "<script>alert(1)</script>" in checked(content).text and b"<script" not in content


def test_a_hand_made_network_is_described(runs: tuple[RunLog, dict[str, str], Path]) -> None:
    """A network without cells has its description, and a run without images no gallery."""
    log, ids, root = runs
    (root / ids["resnet"] / "results" / "samples.parquet").unlink()
    content = network_report(log, ids["resnet"])
    page = checked(content)
    assert "ResNet-18 is hand-made" in page.text and b">Images</h2>" not in content and b'class="cell"' not in content


def test_a_report_needs_an_attack(runs: tuple[RunLog, dict[str, str], Path]) -> None:
    """Searches and unknown runs are refused in a sentence, and so are images that cannot be read."""
    log, ids, root = runs
    with pytest.raises(ConfigError, match="needs the id of an attack"):
        network_report(log, ids["search"])
    with pytest.raises(RunLogError, match="There is no run"):
        network_report(log, "nothing")
    (root / ids["attack"] / "results" / "samples.parquet").write_bytes(b"torn")
    with pytest.raises(RunLogError, match="cannot be read"):
        network_report(log, ids["attack"])


def test_a_page_of_a_table_shows_its_rows() -> None:
    """The page of a table is well formed, shows every name literally, and its bold figures are those told apart."""
    table = made_table()
    page = checked(to_html(table, [distinguished(table)], 3))
    assert all(row.label in page.text for row in table.rows) and SPECIAL in page.text
    assert page.tags.count("tr") == 1 + len(table.rows) + 1 and "The test split was opened 3 times." in page.text
    assert checked(to_html(made_table(["A"]), [], 1)).tags.count("b") == 0


def decoded(data: bytes) -> np.ndarray:
    """Return the levels [H, W, C] of a PNG that filters no row, read chunk by chunk, with each checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, {}
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position:position + 8])
        body = data[position + 8:position + 8 + size]
        assert struct.unpack(">I", data[position + 8 + size:position + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind], position = body, position + 12 + size
    width, height, _, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_png_holds_the_pixels(shape: tuple[int, int, int]) -> None:
    """A PNG decodes to the levels of the pixels, exactly, by our reading of the standard and by Pillow's."""
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).random(shape, np.float32)
    levels = np.rint(pixels * 255).transpose(1, 2, 0)
    assert (decoded(png(pixels)) == levels).all()
    assert (np.asarray(Image.open(io.BytesIO(png(pixels)))).reshape(levels.shape) == levels).all()


def test_the_difference_is_stretched_around_grey() -> None:
    """An unchanged pixel is grey, and the largest change is black or white."""
    natural = np.full((1, 2, 2), 0.4, np.float32)
    changed = natural + np.array([[[0, 0.1], [-0.05, 0]]], np.float32)
    sample = Sample(0, 0, "fgsm", natural, changed, None, None, None)
    assert difference(sample) == pytest.approx(np.array([[[0.5, 1.0], [0.25, 0.5]]]), abs=1e-6)
    assert difference(Sample(0, 0, "fgsm", natural, natural, None, None, None)) == pytest.approx(0.5)


def test_the_gallery_stays_within_its_bytes(tmp_path: Path) -> None:
    """As many images are shown as fit."""
    image = np.random.default_rng(0).random((3, 64, 64), np.float32)
    samples = [Sample(number, 0, "fgsm", image, 1 - image, 3, 0.62, False) for number in range(60)]
    text = gallery_html(samples)
    assert 0 < text.count("<figure>") < 60 and len(text) < 1_500_100
    assert "predicted 3 with confidence 62.0 % (falls)" in text
    first = re.search(r"base64,([^\"]+)", text)
    assert first and (decoded(base64.b64decode(first[1])) == np.rint(image * 255).transpose(1, 2, 0)).all()
    assert read_samples(tmp_path / "none.parquet", pd.DataFrame()) == []


def test_curves_have_one_line_per_series(runs: tuple[RunLog, dict[str, str], Path]) -> None:
    """The charts of a retraining show accuracy and loss as one polyline per series, and without curves there is no chart."""
    log, ids, _ = runs
    text = training_curves(log.curves(ids["retrain"]), "select")
    assert text.count("<polyline") == 5 and text.count("<figure>") == 2
    assert training_curves(log.curves(ids["attack"]), "select") == ""
