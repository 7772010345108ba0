"""Drawings for print: SVG of cells and charts in which every colour is written out, so that no style sheet is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

NAMESPACE = "http://www.w3.org/2000/svg"
INK, SOFT, LINE = "#1b2430", "#566272", "#c9d0d8"
# Class of the style sheets of pages and reports -> attributes with the same look on white paper.
LOOKS: Mapping[str, Mapping[str, str]] = {
    "rp-node": {"fill": "#ffffff", "stroke": SOFT},
    "rp-concat": {"fill": "none", "stroke": LINE, "stroke-width": "1.5"},
    "rp-edge-label": {"font-size": "13", "stroke": "#ffffff", "stroke-width": "4", "paint-order": "stroke"},
    "axis": {"stroke": LINE},
    "line": {"fill": "none", "stroke-width": "2"},
}
VARIABLES = {"natural": "#2b7bd4", "adversarial": "#db5a1f", "training": "#8a7fb8"}
_VARIABLE = re.compile(r"(stroke|fill):var\(--(\w+)\)")


def printable(svg: str) -> Element:
    """Return a copy of a drawing that looks the same without a style sheet, in the colours for print.

    Args:
        svg: text of one SVG element, as `engine.drawing.cell.cell_svg` and `engine.report.curves.chart_svg` return it.
    """
    root = ElementTree.fromstring(svg)
    is_chart = root.get("class") == "chart"
    _, _, width, height = root.attrib["viewBox"].split()
    title = root.get("aria-label", "")
    for element in list(root.iter()):
        _restyle(element, is_chart)
    root.attrib = {"xmlns": NAMESPACE, "viewBox": f"0 0 {width} {height}", "width": width, "height": height,
                   "font-family": "Helvetica, Arial, sans-serif"}
    if title:
        ElementTree.SubElement(root, "title").text = title
    return root


def _restyle(element: Element, is_chart: bool) -> None:
    """Replace the class and the style of an SVG element by attributes, and remove its data attributes.

    All other attributes are kept.
    """
    looks = {name: value for one in element.attrib.pop("class", "").split() for name, value in LOOKS.get(one, {}).items()}
    for name in [name for name in element.attrib if name.startswith("data-")]:
        del element.attrib[name]
    looks |= {name: VARIABLES.get(variable, INK) for name, variable in _VARIABLE.findall(element.attrib.pop("style", ""))}
    if element.tag == "text":
        looks = {"fill": SOFT if is_chart else INK, "font-size": "11"} | looks
    for name, value in looks.items():
        element.attrib.setdefault(name, value)


def svg_bytes(drawing: Element) -> bytes:
    """Return a printable drawing as the content of an SVG file."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(drawing, encoding="unicode")}\n'.encode()
