"""The frame of a self-contained HTML page: style sheet for light and dark screens, sections and tables.

The page loads no other files. Its content security policy forbids scripts, and allows images only if they are inside the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #566272; --line: #dfe4ea; --surface: #ffffff; --raised: #f6f8fa;
  --good: #117a52; --warn: #94600a; --bad: #b42a1f; --natural: #2b7bd4; --adversarial: #db5a1f; --training: #8a7fb8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #9dabba; --line: #2b3643; --surface: #10151c;
  --raised: #171e27; --good: #4cc38a; --warn: #e0a93c; --bad: #ff8073; } }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.5rem 4rem; background: var(--surface); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, summary { max-width: 76ch; } .soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; } caption { text-align: left; }
th { text-align: left; font-weight: 560; } thead th { color: var(--soft); font-size: .82rem; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; }
.scroll { overflow-x: auto; } .right { text-align: right; white-space: nowrap; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .82rem; }
.green, .passed { color: var(--good); } .amber, .warning { color: var(--warn); } .red, .failed { color: var(--bad); }
.side { display: flex; flex-wrap: wrap; gap: 1.2rem; } figure { margin: 0; }
.cell { flex: 1 1 440px; overflow-x: auto; container-type: inline-size; }
svg text { fill: var(--ink); font-family: system-ui, sans-serif; }
.rp-node { fill: var(--raised); stroke: var(--soft); } .rp-concat { fill: none; stroke: var(--line); stroke-width: 1.5; }
.rp-edge-label { font-size: 13px; paint-order: stroke; stroke: var(--surface); stroke-width: 4px; }
.rp-legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .85rem; } .rp-legend svg { margin-right: .4em; }
.chart text { font-size: 11px; fill: var(--soft); } .chart .axis { stroke: var(--line); }
.chart .line { fill: none; stroke-width: 2; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 1rem; }
.gallery img { width: 68px; height: 68px; image-rendering: pixelated; border: 1px solid var(--line); }
"""


class Html(str):
    """HTML that `table` inserts without escaping. The code that creates it must escape text from files or users."""


def page(title: str, body: str) -> bytes:
    """Return a complete HTML document in UTF-8.

    Args:
        title: title of the document, as plain text.
        body: content of the body element, as HTML.
    """
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n").encode()


def section(title: str, *parts: str) -> str:
    """Return a section as HTML, or "" if all parts are empty.

    Args:
        title: heading, as plain text.
        parts: content, as HTML.
    """
    present = [part for part in parts if part]
    return f"<section><h2>{escape(title)}</h2>{''.join(present)}</section>\n" if present else ""


def paragraph(text: str, look: str = "") -> str:
    """Return a paragraph as HTML, or "" if the text is empty.

    Args:
        text: content, as plain text.
        look: CSS class of the paragraph.
    """
    return f"<p{_class(look)}>{escape(text)}</p>" if text else ""


def commands(lines: Iterable[str]) -> str:
    """Return command lines as HTML, in a form that can be copied and pasted into a shell."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, label: str, right: Sequence[int] = (),
          looks: Sequence[str] = ()) -> str:
    """Return a table as HTML, or "" if there are no rows. The cells of the first column are the headings of their rows.

    Args:
        titles: headings of the columns.
        rows: cells of each row. Cells of type `Html` are inserted as they are, others are escaped.
        label: name of the table for screen readers.
        right: positions of the columns that are aligned to the right.
        looks: CSS class of each row.
    """
    body = "".join(f"<tr{_class(looks[number] if looks else '')}>{_cells(row, right)}</tr>" for number, row in enumerate(rows))
    head = "".join(f'<th scope="col"{_class("right" if column in right else "")}>{escape(title)}</th>'
                   for column, title in enumerate(titles))
    return (f'<div class="scroll"><table aria-label="{escape(label)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            "</div>") if body else ""


def details(title: str, body: str) -> str:
    """Return a collapsed section as HTML, or "" if `body` is empty."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def _cells(row: Sequence[object], right: Sequence[int]) -> str:
    first, *others = (cell if isinstance(cell, Html) else escape(str(cell)) for cell in row)
    return f'<th scope="row">{first}</th>' + "".join(
        f"<td{_class('right' if column in right else '')}>{cell}</td>" for column, cell in enumerate(others, start=1))


def _class(name: str) -> str:
    return f' class="{escape(name)}"' if name else ""
