"""The collapse radar: a planted collapse is shaded, its levels and the last healthy epoch are marked, names do not repeat."""

from __future__ import annotations

import pandas as pd

from app import theme
from app.charts.collapse import radar_figure
from engine.insight.collapse import RADAR

HEALTHY = (1, 2, "sep_conv_3x3", 0.5, "")
NOTE, COLLAPSED = (2, 3, "skip_connect", 0.375, "info"), (7, 8, "skip_connect", 0.875, "warning")


def table_of(epochs: int = 50, **cells: dict[int, tuple[int, int, str, float, str]]) -> pd.DataFrame:
    """Return a table of the radar; each cell kind has what holds from an epoch on: skips, parameter-free, dominant, level."""
    rows = []
    for cell, course in cells.items():
        for epoch in range(epochs + 1):
            skips, free, dominant, share, level = course[max(one for one in course if one <= epoch)]
            rows.append((epoch, 10 * epoch, cell, 8, skips, free, free / 8, 0.4, dominant, share, 0.7, level, bool(level)))
    return pd.DataFrame(rows, columns=list(RADAR)).astype(RADAR)


def test_a_planted_collapse_is_shaded_from_its_first_epoch_and_the_last_healthy_one_is_marked() -> None:
    figure = radar_figure(table_of(robust={0: HEALTHY, 20: NOTE, 30: COLLAPSED}, reduce={0: COLLAPSED[:4] + ("",)},
                                   accurate={0: HEALTHY}))
    shaded = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
    # The columns are accurate, reduction and robust cell.
    assert [(one["xref"], one["x0"], one["x1"]) for one in shaded] == [("x3", 19.5, 29.5), ("x3", 29.5, 50.5)]
    assert [one["fillcolor"].startswith(theme.faint(theme.ALARMS[level])[:-5]) for one, level in
            zip(shaded, ("info", "warning"), strict=True)] == [True, True]
    healthy = [one for one in figure["layout"]["shapes"] if one["type"] == "line" and one["xref"] == "x3"]
    assert [one["x0"] for one in healthy] == [19]
    levels = [(one["xref"], one["y0"]) for one in figure["layout"]["shapes"] if str(one.get("xref")).endswith(" domain")]
    assert levels == [("x domain", 2), ("x domain", 75.0), ("x3 domain", 2), ("x3 domain", 75.0)]
    heads = [note["text"] for note in figure["layout"]["annotations"] if "<br>" in note["text"]]
    assert heads[0].endswith("no sign") and heads[1].endswith("not judged") and heads[2].endswith("last healthy epoch 19")
    assert "collapsed" in heads[2]


def test_the_charts_of_a_row_and_of_a_column_share_their_axes_and_name_each_operation_once() -> None:
    figure = radar_figure(table_of(robust={0: HEALTHY, 12: NOTE, 20: HEALTHY, 30: COLLAPSED}, accurate={0: HEALTHY}))
    assert [(trace["xaxis"], trace["yaxis"]) for trace in figure["data"]] == [
        (x, y) for x in ("x", "x2") for y in ("y", "y2", "y3")]
    assert figure["layout"]["yaxis2"]["tickvals"] == (0, 75, 100) and figure["layout"]["xaxis"]["range"] == [-0.5, 50.5]
    shares = figure["data"][4]
    assert shares["y"][0] == 25 and shares["y"][50] == 100
    names = [note for note in figure["layout"]["annotations"] if note["xref"] == "x2"]
    assert [(">skip<" in note["text"], note["x"]) for note in names] == [(True, 40.0), (False, 5.5)]


def test_without_genotypes_the_chart_says_what_will_come() -> None:
    figure = radar_figure(table_of())
    assert not figure["data"] and "first genotype" in figure["layout"]["annotations"][0]["text"]
