"""The load of a run's machine over time: small charts that share a time axis, each titled with its quantity and newest value."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout

COLUMNS = 2
ROW_HEIGHT, FRAME_HEIGHT = 132, 46  # pixels of one row of charts, and of the frame around all rows
TITLE_SHARE = 0.27  # share of a row that its titles take
LONGEST_GAP_S = 60.0  # lines break where the worker measured nothing for longer, as between two attempts
GIB = 2**30
WAITING = "The first measurement follows a few seconds after the start of the worker"


@dataclass(frozen=True)
class Chart:
    """One small chart.

    Attributes:
        title: the quantity, for example "CPU of the machine".
        unit: unit of the values, with a leading space if it is separated from the number.
        times: Unix times of the measurements.
        values: the measurements.
        colour: colour of the line.
        digits: decimals of the values.
        most: largest possible value, shown in the title and at the end of the axis; None if there is none.
    """

    title: str
    unit: str
    times: list[float]
    values: list[float]
    colour: str
    digits: int = 1
    most: float | None = None

    @property
    def newest(self) -> str:
        """The newest value with its unit, and the largest possible one."""
        of = "" if self.most is None or self.unit == " %" else f" of {self.most:,.{self.digits}f}"
        value = f"{self.values[-1]:.3g}" if 0 < self.values[-1] < 1 else f"{self.values[-1]:,.{self.digits}f}"
        return f"{value}{of}{self.unit}"


def system(load: pd.DataFrame, gpus: pd.DataFrame) -> PlainFigure:
    """Return a figure with one small chart for each measured quantity.

    Args:
        load: table from `RunLog.telemetry`.
        gpus: table from `RunLog.gpu_telemetry`.
    """
    if load.empty:
        return blank(WAITING)
    charts = [*_of_machine(load), *_of_gpus(gpus)]
    rows = -(-len(charts) // COLUMNS)
    layout = common_layout(legend=False, margin={"l": 48, "r": 10, "t": 6, "b": 40}) | {
        "hovermode": "closest", "height": FRAME_HEIGHT + ROW_HEIGHT * rows}
    for column in range(COLUMNS):
        lowest = (len(charts) - 1 - column) // COLUMNS
        layout[f"xaxis{_axis(column)}"] = AXIS | {
            "type": "date", "domain": [column * 0.52, column * 0.52 + 0.48], "anchor": f"y{_axis(lowest * COLUMNS + column)}",
            "nticks": 6, "showgrid": True} | ({"matches": "x"} if column else {})
    traces, notes = [], []
    for place, chart in enumerate(charts):
        row, column = divmod(place, COLUMNS)
        bottom, top = 1 - (row + 1) / rows + 0.05 / rows, 1 - row / rows - TITLE_SHARE / rows
        layout[f"yaxis{_axis(place)}"] = AXIS | {
            "domain": [bottom, top], "anchor": f"x{_axis(column)}", "nticks": 3, "rangemode": "tozero",
            "range": [0, 1.04 * (chart.most or max(chart.values) or 1)], "hoverformat": f",.{chart.digits}f"}
        traces.append(_line(chart) | {"xaxis": f"x{_axis(column)}", "yaxis": f"y{_axis(place)}"})
        notes.append({"text": f"{chart.title}  <b>{chart.newest}</b>", "x": column * 0.52, "y": top, "xref": "paper",
                      "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 12.5}})
    return {"data": traces, "layout": layout | {"annotations": notes}}


def _of_machine(load: pd.DataFrame) -> Iterator[Chart]:
    """Yield the charts of the worker and its machine, from throughput to free disk space."""
    natural, accent, neutral = theme.SERIES["natural"], theme.FRONT, theme.SERIES["neutral"]
    times = load["t"].tolist()
    used, memory = (load["machine_bytes"] - load["machine_free_bytes"]) / GIB, float(load["machine_bytes"].max()) / GIB
    unit = str(load["unit"].iloc[-1]) or "units"
    yield Chart(f"Throughput, {unit}", " per s", times, load["units_per_s"].tolist(), accent, 2)
    yield Chart("Forward passes", " per s", times, load["passes_per_s"].tolist(), accent)
    yield Chart("CPU of the worker", " cores", times, load["process_cores"].tolist(), natural, 2)
    yield Chart("CPU of the machine", " %", times, (100 * load["machine_cpu"]).tolist(), neutral, 0, 100.0)
    yield Chart("Memory of the worker", " GiB", times, (load["memory_bytes"] / GIB).tolist(), natural, 2)
    yield Chart("Memory of the machine in use", " GiB", times, used.tolist(), neutral, 1, memory)
    yield Chart("Free disk", " GiB", times, (load["disk_free_bytes"] / GIB).tolist(), neutral)


def _of_gpus(gpus: pd.DataFrame) -> Iterator[Chart]:
    colour = theme.SERIES["adversarial"]
    for device, rows in gpus.groupby("device"):
        name, times = f"{rows['name'].iloc[-1]} ({device})", rows["t"].tolist()
        yield Chart(f"{name}, busy", " %", times, (100 * rows["utilisation"]).tolist(), colour, 0, 100.0)
        yield Chart(f"{name}, memory", " GiB", times, (rows["memory_bytes"] / GIB).tolist(), colour, 1,
                    float(rows["memory_total_bytes"].max()) / GIB)
        yield Chart(f"{name}, temperature", " °C", times, rows["temperature_c"].tolist(), colour, 0)


def _line(chart: Chart) -> dict[str, Any]:
    """Return the line of a chart, with a gap wherever nothing was measured for long."""
    usual = sorted(after - before for before, after in zip(chart.times, chart.times[1:]))
    longest = max(LONGEST_GAP_S, 3 * usual[len(usual) // 2]) if usual else 0.0
    moments: list[str | None] = []
    values: list[float | None] = []
    for place, (moment, value) in enumerate(zip(chart.times, chart.values, strict=True)):
        if place and moment - chart.times[place - 1] > longest:
            moments.append(moments[-1])
            values.append(None)
        moments.append(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)))
        values.append(round(value, 4))
    return {"type": "scatter", "x": moments, "y": values, "mode": "lines" if len(chart.times) > 1 else "markers",
            "name": chart.title, "connectgaps": False, "showlegend": False, "line": {"color": chart.colour, "width": 1.8},
            "fill": "tozeroy", "fillcolor": theme.faint(chart.colour, 0.12), "marker": {"color": chart.colour, "size": 6},
            "hovertemplate": f"%{{y:,.3~f}}{chart.unit}, %{{x|%H:%M:%S}}<extra></extra>"}


def _axis(place: int) -> str:
    """Return the suffix of an axis in Plotly's layout: "" for the first, then "2", "3" and so on."""
    return str(place + 1) if place else ""
