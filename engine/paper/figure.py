"""Legends below the charts of a paper pack."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from engine.drawing.printing import INK, VARIABLES
from engine.report.curves import LEFT, LINES


def with_legend(chart: Element, names: Sequence[str]) -> Element:
    """Add a row with a legend below a printable chart, and return the chart.

    Args:
        chart: chart of `engine.report.curves.chart_svg`.
        names: names of its lines, in the order of the legend.
    """
    width, height = chart.attrib["width"], float(chart.attrib["height"]) + 18
    chart.attrib |= {"height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    x, y = LEFT, height - 8
    for name in names:
        _, variable, text, dash = LINES[name]
        line = {"x1": f"{x:g}", "x2": f"{x + 26:g}", "y1": f"{y:g}", "y2": f"{y:g}", "stroke": VARIABLES[variable],
                "stroke-width": "2"}
        if dash:
            line["stroke-dasharray"] = dash
        ElementTree.SubElement(chart, "line", line)
        look = {"x": f"{x + 32:g}", "y": f"{y + 4:g}", "fill": INK, "font-size": "11"}
        ElementTree.SubElement(chart, "text", look).text = text
        x += 52 + 6 * len(text)
    return chart
