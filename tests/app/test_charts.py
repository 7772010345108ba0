"""Charts of the Run page on frames of a real run log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from app import theme
from app.charts import alphas, mgda, objectives
from app.charts.geometry import boundary, spread
from app.charts.labels import places_of
from app.charts.river import river
from app.charts.training import NAMES, trade_off
from engine.architecture.genotype import EDGES, PRIMITIVES
from engine.insight.alphas import river as insight_river
from engine.log import RunLog
from tests.sample_runs import EPOCHS, STEPS_PER_EPOCH, write_finished_chain

STEPS = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunLog, tuple[str, str, str]]]:
    """The run log of a finished chain, and the ids of search, retraining and attack."""
    root = tmp_path_factory.mktemp("charts")
    ids = write_finished_chain(root)
    log = RunLog.open(root, in_memory=True)
    log.ingest()
    yield log, ids
    log.close()


def test_natural_and_adversarial_loss_and_accuracy_share_one_chart(chain):
    log, (search, _, _) = chain
    figure = go.Figure(trade_off(log.curves(search), log.steps_curve(search, list(NAMES)), split="alphas"))
    epochs = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert {(trace.name, trace.yaxis or "y") for trace in epochs} == {
        ("natural", "y"), ("adversarial", "y"), ("natural", "y2"), ("adversarial", "y2"), ("training batch", "y2")}
    assert all(len(trace.x) == EPOCHS for trace in epochs)
    # The chart also moves within an epoch: each step has a point on the thin lines.
    assert max(len(trace.x) for trace in figure.data if trace.mode == "lines") == STEPS
    assert {trace.line.color for trace in epochs if trace.name == "natural"} == {theme.SERIES["natural"]}


def test_a_retraining_draws_the_select_split_only(chain):
    log, (_, retrain, _) = chain
    curves = log.curves(retrain)
    figure = go.Figure(trade_off(curves, split="select"))
    natural = next(t for t in figure.data if t.name == "natural" and t.yaxis == "y")
    expected = curves[(curves["split"] == "select") & (curves["name"] == "natural_accuracy")].sort_values("step")["value"]
    assert list(natural.y) == pytest.approx((100 * expected).tolist(), abs=0.005)
    assert figure.layout.yaxis.ticksuffix == " %" and "%{y:.1f} %" in natural.hovertemplate


def test_heat_map_frames_the_strongest_operation_of_every_edge(chain):
    log, (search, _, _) = chain
    matrix = log.alpha_matrix(search, "robust", EPOCHS)
    figure = go.Figure(alphas.heat_map(matrix))
    z = np.array(figure.data[0].z)
    assert z.shape == (len(EDGES), len(PRIMITIVES))
    assert z.sum(axis=1) == pytest.approx(np.ones(len(EDGES)))
    framed = {(round((s.y0 + s.y1) / 2), round((s.x0 + s.x1) / 2)) for s in figure.layout.shapes}
    assert framed == {(row, int(z[row].argmax())) for row in range(len(EDGES))}


def test_river_shows_every_edge_and_operation_with_the_strongest_in_its_colour(chain):
    log, (search, _, _) = chain
    course = insight_river(log, search, "accurate")
    figure = go.Figure(river(log.alpha_courses(search, "accurate"), course))
    strong = {trace.meta: (trace.name, trace.line.color) for trace in figure.data if trace.name}
    styles = [theme.operation(name) for name in course.operations()]
    assert strong == {str(edge): (style.short, style.colour) for edge, style in enumerate(styles)}
    faint = [trace for trace in figure.data if trace.mode == "lines" and not trace.name]
    assert [sum(step is None for step in trace.x) for trace in faint] == [len(PRIMITIVES) - 1] * len(EDGES)
    assert figure.layout.annotations[0].text.removeprefix("<b>").startswith("c<sub>k−2</sub> → 0")


def test_mgda_weights_add_up_and_the_angle_is_in_degrees(chain):
    log, (search, _, _) = chain
    figure = go.Figure(mgda.weights_and_angle(log.objectives(search)))
    natural, adversarial, angle = figure.data
    assert np.array(natural.y) + np.array(adversarial.y) == pytest.approx(np.ones(STEPS))
    assert np.mean(angle.y) == pytest.approx(60, abs=1)  # the samples' cosine is one half


def test_degrees_survive_rounding_errors():
    assert mgda.degrees(pd.Series([1.0000001, 0.0, -1.0000001])).tolist() == pytest.approx([0, 90, 180])


def test_charts_of_an_empty_log_say_what_will_be_there(chain):
    log, _ = chain
    nobody = "20261118-0000-arnas-digits-0000"
    for figure in (trade_off(log.curves(nobody), log.steps_curve(nobody, list(NAMES)), split="alphas"),
                   alphas.heat_map(log.alpha_matrix(nobody, "robust", 1)), river(log.alpha_courses(nobody, "robust"), None),
                   mgda.weights_and_angle(log.objectives(nobody))):
        assert not figure["data"] and "appear" in go.Figure(figure).layout.annotations[0].text


def test_scale_of_weights_fits_them_but_never_magnifies_noise():
    assert alphas.span(0.1, 0.5) == pytest.approx((0.08, 0.52))
    assert alphas.span(0.1428, 0.1430) == pytest.approx((0.1329, 0.1529))
    assert alphas.span(0.0, 1.0) == (0.0, 1.0)


def test_weights_of_several_objectives_and_off_the_simplex_stay_on_the_chart():
    steps = range(1, 4)
    frame = pd.DataFrame([
        {"step": step, "epoch": 1, "objective": name, "weight": weight, "norm": 1.0, "loss": 1.0, "cosine": cosine}
        for step in steps for name, weight, cosine in (("natural", 1.6, 0.5), ("trades", -0.4, -1.0), ("size", 0.1, -1.0),
                                                       ("macs", 0.2, 0.9))])
    figure = go.Figure(mgda.weights_and_angle(frame))
    drawn = {trace.name: trace for trace in figure.data}
    assert drawn["TRADES KL"].line.color == theme.SERIES["adversarial"]
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data[:4]}) == 4
    assert list(drawn["size: largest angle"].x) == list(steps)
    assert list(drawn["size: largest angle"].y) == pytest.approx([180.0] * 3)
    assert list(drawn["natural: largest angle"].y) == pytest.approx([60.0] * 3)
    assert drawn["size: largest angle"].line.color == drawn["size"].line.color
    low, high = figure.layout.yaxis.range
    assert low < -0.4 and high > 1.6


def test_every_further_objective_has_a_chart_a_title_and_a_look_of_its_own():
    names = ["natural", "trades", "out_of_distribution", "one_step", "parameter_share", "mac_share", "unheard_of"]
    frame = pd.DataFrame([{"step": step, "objective": name, "loss": step + i} for step in (1, 2) for i, name in enumerate(names)])
    further = objectives.further(frame["objective"])
    assert further == names[2:] and objectives.rows_of(further) == 2
    figure = go.Figure(objectives.further_losses(frame))
    assert [trace.name for trace in figure.data] == [
        "out-of-distribution KL", "one-step adversarial", "parameter count", "MAC count", "unheard of"]
    assert [list(trace.y) for trace in figure.data] == [[1 + i, 2 + i] for i in range(2, 7)]
    assert [note.text for note in figure.layout.annotations][2:] == [
        "parameter count<br>(share of the largest)", "MAC count<br>(share of the largest)", "unheard of"]
    places = [(figure.layout[trace.xaxis.replace("x", "xaxis")].domain, figure.layout[trace.yaxis.replace("y", "yaxis")].domain)
              for trace in figure.data]
    for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
        assert x[1] < other_x[0] or other_x[1] < x[0] or y[1] < other_y[0] or other_y[1] < y[0]
    assert all(0 <= low < high <= 1 for place in places for low, high in place)
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == 5
    assert not objectives.further_losses(frame[frame["objective"] == "natural"])["data"]


def test_labels_take_free_places_and_never_overlap() -> None:
    """The first label stands to the upper right, a crowded one elsewhere, and one without space is left out."""
    assert places_of([(50, 50)], ["ARNAS"], (640, 400)) == ["top right"]
    assert places_of([(600, 50)], ["A long name"], (640, 400)) == ["top left"]  # stays inside the plot
    assert len(set(places_of([(150, 50), (154, 52)], ["ARNAS, seed 1", "ARNAS, seed 2"], (640, 400)))) == 2
    crowded = places_of([(300 + place % 5, 200) for place in range(40)], ["ARNAS, seed 1"] * 40, (640, 400))
    assert 1 <= sum(place is not None for place in crowded) < 12


def test_points_of_equal_values_stand_side_by_side() -> None:
    places = spread([(1.0, 1.0), (2.0, 2.0), *[(1.0, 1.0)] * 8], ((0, 10), (0, 10)), (640, 400))
    assert places[1] == (2.0, 2.0) and len(set(places)) == 10
    assert all(abs(x - 1) < 0.6 and abs(y - 1) < 0.9 for x, y in places[:1] + places[2:])


def test_the_boundary_of_a_region_follows_the_direction_of_its_axes() -> None:
    ranges = ((0.0, 10.0), (0.0, 10.0))
    assert boundary([(2, 8), (6, 4)], (True, True), ranges) == [(6, 0), (6, 4), (2, 4), (2, 8), (0, 8)]
    assert boundary([(2, 4), (6, 8)], (False, True), ranges)[0] == (2, 0)  # fewer is better on the horizontal axis
