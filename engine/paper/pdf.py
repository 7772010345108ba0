"""Conversion of our own drawings to vector PDF. LaTeX cannot include SVG, and with this module nobody has to install a converter.

It supports only what drawings of cells and charts contain: paths of moves and curves, lines, polylines, circles, rectangles, and
texts with parts of another size. The fonts are Helvetica and Helvetica bold, which every PDF viewer has; they are not embedded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from xml.etree.ElementTree import Element

POINTS_PER_PIXEL = 0.75
CIRCLE = 0.5523  # distance of the control points from the ends of a Bezier curve that is a quarter of a unit circle
# Widths of the characters from the space to the tilde in Helvetica, in thousandths of the font size (Adobe's metrics).
WIDTHS = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556, 556, 556,
    556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667,
    778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222,
    222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584]
PRINTED = {"\u2212": "\u2013", "\u2731": "*"}  # characters that the font lacks, and what is printed instead


def pdf_bytes(drawing: Element) -> bytes:
    """Return a printable drawing (`engine.drawing.printing.printable`) as a PDF file of one page with the size of the drawing."""
    width, height = (float(drawing.attrib[name]) * POINTS_PER_PIXEL for name in ("width", "height"))
    head = f"{POINTS_PER_PIXEL} 0 0 -{POINTS_PER_PIXEL} 0 {height:.2f} cm"  # the y axis of a PDF points upwards
    content = zlib.compress("\n".join([head, *_operators(drawing)]).encode("cp1252", "replace"))
    fonts = "<< /Font << /F1 4 0 R /F2 5 0 R >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] /Resources {fonts} /Contents 6 0 R >>".encode(),
        *(f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()
          for name in ("Helvetica", "Helvetica-Bold")),
        f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode() + content + b"\nendstream",
    ]
    return _file(objects)


def _file(objects: list[bytes]) -> bytes:
    """Return a PDF file with these objects, numbered from 1; the first is the catalogue."""
    data, places = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n".encode() + one + b"\nendobj\n"
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    return data + (f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
                   f"startxref\n{len(data)}\n%%EOF\n").encode()


def _operators(root: Element) -> Iterator[str]:
    """Yield the PDF operators of all shapes and texts of a drawing, in their order."""
    for element in root.iter():
        if element.tag == "text":
            yield from _text(element)
        elif element.tag in _SHAPES:
            yield from _painted(element.attrib, _SHAPES[element.tag](element.attrib))


def _painted(look: Mapping[str, str], path: str) -> Iterator[str]:
    """Yield the PDF operators that fill and stroke a shape.

    Args:
        look: SVG attributes of the shape, such as fill and stroke.
        path: PDF operators of the shape's outline.
    """
    fill, stroke = look.get("fill", "#000000"), look.get("stroke", "none")
    if fill != "none":
        yield f"{_colour(fill)} rg"
    if stroke != "none":
        dashes = look.get("stroke-dasharray", "").replace(",", " ")
        yield f"{_colour(stroke)} RG {look.get('stroke-width', '1')} w [{dashes}] 0 d"
    paint = {(True, True): "B", (True, False): "f", (False, True): "S"}.get((fill != "none", stroke != "none"), "n")
    yield f"{path} {paint}"


def _colour(text: str) -> str:
    """Return a colour such as "#2b7bd4" as three numbers in 0..1."""
    return " ".join(f"{int(text[place:place + 2], 16) / 255:.3f}" for place in (1, 3, 5))


def _path(look: Mapping[str, str]) -> str:
    """Return the PDF operators of an SVG path, which may have only the commands M and C with absolute coordinates."""
    parts = [(command, re.findall(r"-?[0-9.]+", numbers)) for command, numbers in re.findall(r"([MC])([^MC]*)", look["d"])]
    return " ".join(f"{' '.join(numbers)} {'m' if command == 'M' else 'c'}" for command, numbers in parts)


def _line(look: Mapping[str, str]) -> str:
    return f"{look['x1']} {look['y1']} m {look['x2']} {look['y2']} l"


def _polyline(look: Mapping[str, str]) -> str:
    first, *rest = (point.replace(",", " ") for point in look["points"].split())
    return " ".join([f"{first} m", *(f"{point} l" for point in rest)])


def _circle(look: Mapping[str, str]) -> str:
    x, y, r = (float(look[name]) for name in ("cx", "cy", "r"))
    return _rounded(x - r, y - r, 2 * r, 2 * r, r)


def _rect(look: Mapping[str, str]) -> str:
    x, y, width, height = (float(look[name]) for name in ("x", "y", "width", "height"))
    return _rounded(x, y, width, height, float(look.get("rx", "0")))


def _rounded(x: float, y: float, width: float, height: float, radius: float) -> str:
    """Return the PDF operators of a rectangle with rounded corners."""
    right, bottom, bend = x + width, y + height, radius * (1 - CIRCLE)
    points = [
        f"{x + radius:.2f} {y:.2f} m {right - radius:.2f} {y:.2f} l",
        f"{right - bend:.2f} {y:.2f} {right:.2f} {y + bend:.2f} {right:.2f} {y + radius:.2f} c",
        f"{right:.2f} {bottom - radius:.2f} l",
        f"{right:.2f} {bottom - bend:.2f} {right - bend:.2f} {bottom:.2f} {right - radius:.2f} {bottom:.2f} c",
        f"{x + radius:.2f} {bottom:.2f} l",
        f"{x + bend:.2f} {bottom:.2f} {x:.2f} {bottom - bend:.2f} {x:.2f} {bottom - radius:.2f} c",
        f"{x:.2f} {y + radius:.2f} l {x:.2f} {y + bend:.2f} {x + bend:.2f} {y:.2f} {x + radius:.2f} {y:.2f} c h"]
    return " ".join(points)


def _text(element: Element) -> Iterator[str]:
    """Yield the PDF operators of a text with its parts. If the text has a white outline, the outline is drawn first."""
    look = element.attrib
    size, bold = float(look.get("font-size", "11")), int(look.get("font-weight", "400")) > 500
    parts = [(element.text or "", size, 0.0)]
    for part in element:
        parts += [(part.text or "", float(part.get("font-size", size)), float(part.get("dy", "0"))), (part.tail or "", size, 0.0)]
    shift = {"middle": 0.5, "end": 1.0}.get(look.get("text-anchor", ""), 0.0)
    left = float(look["x"]) - shift * sum(_width(text, points) for text, points, _ in parts)
    modes = [(1, look.get("stroke", ""), "RG"), (0, look.get("fill", "#000000"), "rg")]
    for mode, colour, operator in modes if "stroke" in look else modes[1:]:
        x, y = left, float(look["y"])
        yield f"{_colour(colour)} {operator} {look.get('stroke-width', '1')} w [] 0 d"
        for text, points, down in parts:
            y += down
            if text:
                yield (f"BT /F{2 if bold else 1} {points:g} Tf {mode} Tr 1 0 0 -1 {x:.2f} {y:.2f} Tm "
                       f"({_literal(text)}) Tj ET")
            x += _width(text, points)


def _width(text: str, size: float) -> float:
    """Return the width of a text in pixels."""
    return sum(WIDTHS[ord(one) - 32] if " " <= one <= "~" else 556 for one in text) * size / 1000


def _literal(text: str) -> str:
    plain = "".join(PRINTED.get(one, one) for one in text)
    return re.sub(r"([\\()])", r"\\\1", plain)


_SHAPES: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "path": _path, "line": _line, "polyline": _polyline, "circle": _circle, "rect": _rect}
