"""Charts of outcomes and sweeps, and the pictures of the gallery, against their data."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from app.charts.outcomes import classes_figure, confusion_figure, upset_figure
from app.charts.sweeps import sweep_figure
from app.charts.transfers import transfer_figure
from app.components.published import block_html
from app.drawing.pictures import BRIGHTER, DARKER, SAME, bytes_of, data_uri, difference
from engine.attack.statistics import wilson
from engine.report.outcomes import ClassAccuracy
from engine.report.published import blocks_of
from engine.report.robustness import Measurement
from engine.report.sweeps import Curve
from engine.report.transfers import TransferCell, TransferMap, TransferNetwork


def measured(correct: int, images: int = 100) -> Measurement:
    return Measurement(correct / images, *wilson(correct, images), correct, images)


def test_bars_of_the_upset_plot_are_the_numbers_of_images_and_dots_their_attacks() -> None:
    figure = go.Figure(upset_figure([(frozenset({"a", "b"}), 7), (frozenset(), 5), (frozenset({"b"}), 2)], {"a": "A", "b": "B"}))
    assert list(figure.data[0].y) == [7, 5, 2]
    assert figure.data[0].hovertext[1] == "5 images: withstand every attack"
    assert figure.data[0].hovertext[2] == "2 images: fall to B only"
    members = [list(trace.y) for trace in figure.data[1:] if trace.mode == "lines+markers"]
    assert members == [[0, 1], [], [1]]
    assert list(figure.layout.yaxis.ticktext) == ["A (7)", "B (9)"]


def test_confusion_is_shown_per_label_with_counts() -> None:
    figure = go.Figure(confusion_figure(np.array([[3, 1], [0, 4]]), "the worst attack"))
    assert figure.data[0].z.tolist() == [[0.75, 0.25], [0, 1]] and figure.data[0].text.tolist() == [["3", "1"], ["", "4"]]


def test_a_class_without_worst_case_has_its_natural_accuracy_only() -> None:
    classes = [ClassAccuracy(0, measured(90), measured(40)), ClassAccuracy(1, measured(80), None)]
    natural, worst = go.Figure(classes_figure(classes)).data
    assert list(natural.y) == [90, 80] and list(worst.y) == [40]
    assert worst.error_y.array[0] == pytest.approx(100 * wilson(40, 100)[1] - 40)


def curve(whole: bool, sweep: str = "epsilon") -> Curve:
    return Curve("r", "ARNAS", sweep, "fmn", "FMN", "Linf", ((0.0, measured(90)), (0.1, measured(40))), whole)


def test_an_attack_that_gives_every_radius_is_a_line_with_a_band_and_others_are_marks() -> None:
    band, line = go.Figure(sweep_figure([curve(True)])).data
    assert band.fill == "toself" and line.mode == "lines" and list(line.y) == [90, 40]
    (marks,) = go.Figure(sweep_figure([curve(False)])).data
    assert "markers" in marks.mode and marks.error_y.array[1] == pytest.approx(100 * wilson(40, 100)[1] - 40)
    assert go.Figure(sweep_figure([curve(False, "steps")])).layout.xaxis.type == "log"


def test_the_axis_of_steps_has_a_tick_at_each_measured_number_and_no_other() -> None:
    curves = [replace(curve(False, "steps"), points=tuple((steps, measured(40)) for steps in each))
              for each in ((1, 20), (5, 20))]
    axis = go.Figure(sweep_figure(curves)).layout.xaxis
    assert list(axis.tickvals) == [1, 5, 20] and list(axis.ticktext) == ["1", "5", "20"]


def test_the_transfer_map_names_every_pair_white_box_results_and_gaps() -> None:
    """Rows are targets. Intervals stand in each cell and in its tooltip, with the number of images."""
    networks = tuple(TransferNetwork(name, f"Network {name}", "") for name in "xy")
    cells = {pair: TransferCell("run-1", "mi-fgsm", measured(correct)) for pair, correct in (
        (("x", "x"), 10), (("x", "y"), 60))}
    figure = go.Figure(transfer_figure(TransferMap("id", {"attack": "mi-fgsm"}, networks, cells)))
    (heat,) = figure.data
    assert [list(line) for line in heat.z] == [[0.1, None], [0.6, None]]
    assert heat.text[0][0] == "<b>10.0 %</b><br>5.5 to 17.4 %<br>white-box" and "white-box" not in heat.text[1][0]
    assert heat.hovertext[1][0] == ("<b>Network y</b><br>MI-FGSM on Network x: 60.0 % (50.2 to 69.1 %), 100 images<br>run-1")
    assert heat.hovertext[1][1] == "<b>Network y</b><br>MI-FGSM on itself (white-box): not measured"
    assert [(note.x, note.y, note.text) for note in figure.layout.annotations] == [
        (1, 0, "not measured"), (1, 1, "not measured")]
    assert list(figure.layout.yaxis.ticktext) == list(figure.layout.xaxis.ticktext) == ["Network x", "Network y"]


def test_the_difference_is_blue_where_darker_and_orange_where_brighter() -> None:
    natural = np.full((1, 1, 3), 0.5, dtype=np.float32)
    adversarial = natural + np.array([[[-0.1, 0, 0.1]]], dtype=np.float32)
    np.testing.assert_allclose(difference(natural, adversarial, 0.1)[0], [DARKER, SAME, BRIGHTER], atol=1)
    assert (difference(natural, natural, 0.0) == SAME).all()


def test_the_channel_that_changed_most_decides_the_difference() -> None:
    natural = np.full((3, 1, 1), 0.5, dtype=np.float32)
    adversarial = natural + np.array([0.01, -0.1, 0.02], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(difference(natural, adversarial, 0.1)[0, 0], DARKER, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_png_of_the_same_pixels_enlarged(channels: int) -> None:
    pixels = np.random.default_rng(0).random((channels, 8, 8), dtype=np.float32)
    head, _, content = data_uri(bytes_of(pixels)).partition(",")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert head == "data:image/png;base64" and picture.shape == (96, 96, 3)
    np.testing.assert_array_equal(picture[::12, ::12], bytes_of(pixels))


def test_claims_of_papers_are_marked_as_claims() -> None:
    html = block_html(blocks_of("cifar10")[1])
    assert "E2RNAS" in html and "measured again by the authors of the source" in html and "40.5 %" in html
    assert "claimed" in html and "Source: zhicheng2T0/Wsr-NAS" in html and "no intervals" in html
    assert "synthetic extra images" in block_html(blocks_of("cifar10")[4])
