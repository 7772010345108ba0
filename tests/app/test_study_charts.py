"""Charts of a study: points, means and intervals are those of the results; the front and the winners are marked."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from scipy import stats

from app.charts.study import front_figure, front_of, looks, strip_figure, strip_height, votes_figure, votes_height
from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import EDGES
from engine.attack.badge import Badge
from engine.report.robustness import Measurement
from engine.study.declaration import Cell
from engine.study.results import ArmResult, CellResult
from engine.study.votes import vote_map
from tests.sample_runs import genotype_at


def arm(name: str, values: list[list[float]], natural: float = 0.95) -> ArmResult:
    """Return the results of an arm with one list per search seed and one value per retraining."""
    def measured(value: float) -> Measurement:
        return Measurement(value, value, value, round(360 * value), 360)
    return ArmResult(name, tuple(
        CellResult(Cell(name, seed, index), "run", measured(value), measured(natural + seed / 1000), 1, 1, None,
                   Badge("green", ()), None, "p")
        for seed, unit in enumerate(values) for index, value in enumerate(unit)))


def traces(figure: go.Figure, symbol: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.marker.symbol == symbol]


def test_the_strip_shows_seeds_retrainings_and_the_t_interval_of_the_mean() -> None:
    figure = go.Figure(strip_figure({"A": arm("A", [[0.60, 0.62], [0.66, 0.68], [0.64, 0.64]])}, "Accuracy"))
    assert list(traces(figure, "circle-open")[0].x) == pytest.approx([61, 67, 64])
    assert list(traces(figure, "line-ns-open")[0].x) == pytest.approx([60, 62, 66, 68, 64, 64])
    mean = figure.data[-1]
    half = 100 * stats.sem([0.61, 0.67, 0.64]) * stats.t.ppf(0.975, 2)
    assert list(mean.x) == pytest.approx([64]) and mean.error_x.array[0] == pytest.approx(half)
    assert mean.error_x.arrayminus[0] == pytest.approx(half)


def test_search_seeds_with_equal_means_stand_below_one_another() -> None:
    units = [[0.6, 0.62], [0.5, 0.5], [0.62, 0.6], [0.61, 0.61]]
    (seeds,) = traces(go.Figure(strip_figure({"A": arm("A", units)}, "Accuracy")), "circle-open")
    assert len(set(zip(seeds.x, seeds.y, strict=True))) == 4 and len(set(seeds.y)) == 3


def test_single_retrainings_and_single_seeds_draw_neither_bars_nor_intervals() -> None:
    figure = go.Figure(strip_figure({"A": arm("A", [[0.5]]), "B": arm("B", [])}, "Accuracy"))
    assert not traces(figure, "line-ns-open") and figure.data[-1].error_x.array is None
    assert list(figure.layout.yaxis.ticktext) == ["A", "B"], "an arm without a result keeps its row"
    assert strip_height(9) > strip_height(2)


def test_arms_differ_in_colour_or_symbol() -> None:
    assert len(set(looks([str(number) for number in range(40)]).values())) == 40


def test_the_front_joins_the_arms_that_no_other_dominates() -> None:
    assert sorted(front_of({"a": (0.9, 0.5), "b": (0.8, 0.6), "c": (0.8, 0.5), "d": (0.9, 0.5)})) == [
        (0.8, 0.6), (0.9, 0.5), (0.9, 0.5)]
    figure = go.Figure(front_figure({"A": arm("A", [[0.5], [0.5]], 0.95), "B": arm("B", [[0.6], [0.6]], 0.9),
                           "C": arm("C", [[0.4], [0.4]], 0.9), "D": arm("D", [])}, "Robust accuracy"))
    line = figure.data[0]
    assert list(line.x) == pytest.approx([90.05, 95.05]) and list(line.y) == pytest.approx([60, 50])
    assert [trace.name for trace in figure.data[1:]] == ["A", "B", "C"]


def test_arms_with_equal_means_share_a_point_that_names_them_all() -> None:
    arms = {"A": arm("A", [[0.5], [0.6]]), "B": arm("B", [[0.6], [0.5]]), "C": arm("C", [[0.55], [0.55]]),
            "D": arm("D", [[0.5], [0.6]], 0.9)}
    figure = go.Figure(front_figure(arms, "Robust accuracy"))
    shown = [trace for trace in figure.data[1:] if trace.showlegend]
    assert [trace.name for trace in shown] == ["A, B, C", "D"]
    assert all(f"<b>{name}</b>" in shown[0].hovertext[0] for name in "ABC") and "<b>D</b>" not in shown[0].hovertext[0]
    assert len(figure.data) == 1 + 4, "each arm keeps its own intervals"


def test_the_votes_on_an_edge_add_up_and_the_winner_is_framed() -> None:
    genotypes = [genotype_at(step, seed) for step, seed in ((10, 2), (10, 2), (10, 3), (10, 3), (2, 4))]
    for votes in vote_map(genotypes).values():
        figure = go.Figure(votes_figure(votes, len(genotypes)))
        numbers = np.array(figure.data[0].z)
        assert numbers.shape[0] == len(EDGES) and (numbers.sum(axis=1) == 5).all()
        framed = {(round((one.y0 + one.y1) / 2), round((one.x0 + one.x1) / 2)) for one in figure.layout.shapes}
        most = numbers.max(axis=1)
        alone = [row for row in range(len(EDGES)) if (numbers[row] == most[row]).sum() == 1]
        assert framed == {(row, int(numbers[row].argmax())) for row in alone}
        assert len(framed) < len(EDGES), "an edge with a tie has no winner"
        assert votes_height(votes) > 14 * 20


def test_published_cells_with_two_kinds_can_be_drawn() -> None:
    votes = vote_map([CATALOG["DARTS_V2"].genotype])
    assert set(votes) == {"normal", "reduce"}
    assert all(go.Figure(votes_figure(one, 1)).data[0].zmax == 1 for one in votes.values())
