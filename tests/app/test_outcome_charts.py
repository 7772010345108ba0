"""Charts of outcomes and sweeps, and the pictures of the gallery, against their data."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from app.charts.outcomes import classes_figure, confusion_figure, upset_figure
from app.charts.sweeps import sweep_figure, transfer_figure
from app.components.published import block_html
from app.drawing.pictures import BRIGHTER, DARKER, SAME, bytes_of, data_uri, difference
from engine.attack.statistics import wilson
from engine.report.outcomes import ClassAccuracy
from engine.report.published import blocks_of
from engine.report.robustness import Measurement, ResultColumn
from engine.report.sweeps import Curve
from tests.app.test_attack_columns import network


def measured(correct: int, images: int = 100) -> Measurement:
    return Measurement(correct / images, *wilson(correct, images), correct, images)


def test_bars_of_the_upset_plot_are_the_numbers_of_images_and_dots_their_attacks() -> None:
    figure = upset_figure([(frozenset({"a", "b"}), 7), (frozenset(), 5), (frozenset({"b"}), 2)], {"a": "A", "b": "B"})
    assert list(figure.data[0].y) == [7, 5, 2]
    assert figure.data[0].hovertext[1] == "5 images: withstand every attack"
    assert figure.data[0].hovertext[2] == "2 images: fall to B only"
    members = [list(trace.y) for trace in figure.data[1:] if trace.mode == "lines+markers"]
    assert members == [[0, 1], [], [1]]
    assert list(figure.layout.yaxis.ticktext) == ["A (7)", "B (9)"]


def test_confusion_is_shown_per_label_with_counts() -> None:
    figure = confusion_figure(np.array([[3, 1], [0, 4]]), "the worst attack")
    assert figure.data[0].z.tolist() == [[0.75, 0.25], [0, 1]] and figure.data[0].text.tolist() == [["3", "1"], ["", "4"]]


def test_a_class_without_worst_case_has_its_natural_accuracy_only() -> None:
    natural, worst = classes_figure([ClassAccuracy(0, measured(90), measured(40)), ClassAccuracy(1, measured(80), None)]).data
    assert list(natural.y) == [90, 80] and list(worst.y) == [40]
    assert worst.error_y.array[0] == pytest.approx(100 * wilson(40, 100)[1] - 40)


def curve(whole: bool, sweep: str = "epsilon") -> Curve:
    return Curve("r", "ARNAS", sweep, "fmn", "FMN", "Linf", ((0.0, measured(90)), (0.1, measured(40))), whole)


def test_an_attack_that_gives_every_radius_is_a_line_with_a_band_and_others_are_marks() -> None:
    band, line = sweep_figure([curve(True)]).data
    assert band.fill == "toself" and line.mode == "lines" and list(line.y) == [90, 40]
    (marks,) = sweep_figure([curve(False)]).data
    assert "markers" in marks.mode and marks.error_y.array[1] == pytest.approx(100 * wilson(40, 100)[1] - 40)
    assert sweep_figure([curve(False, "steps")]).layout.xaxis.type == "log"


def test_the_transfer_map_has_gaps_where_nothing_was_measured() -> None:
    columns = [ResultColumn("transfer-a", "from A", "", 100), ResultColumn("transfer-b", "from B", "", 100)]
    figure = transfer_figure(columns, [network("X", transfer_a=60), network("Y", transfer_b=50)])
    assert [list(line) for line in figure.data[0].z] == [[0.6, None], [None, 0.5]]


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
