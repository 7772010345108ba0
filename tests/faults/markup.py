"""Text that Streamlit or Plotly would show as links, images, icons, colours or formulas, and the search for it on a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from streamlit.testing.v1 import AppTest

from tests.app.pages import component_data

MARKUP = ("[x](http://evil.example) ![y](http://evil.example/i.png) <img src=http://evil.example/i.png> "
          "<a href=http://evil.example>z</a> $\\latex$ :material/home: :red[z] **bold** `code`")
RENDERED = {
    "a link": r"(?<!\\)\[x\\?\]\(http",
    "an image": r"!(?<!\\)\[y\\?\]\(http",
    "HTML": r"(?<!\\)<(img|a) (src|href)=http://evil",
    "a formula": r"(?<!\\)\$\\latex",
    "an icon": r":material/home:",
    "a colour": r":red\[z",
    "bold": r"(?<!\\)\*\*bold",
    "a bare link": r"http://evil",
}
# Fields whose text Streamlit does not read as Markdown: {name of a message or of a field in any message}.
PLAIN = {"Html", "BidiComponent", "Code", "Text", "value", "raw_values", "raw_value", "url", "href", "query_string", "id",
         "form_id", "default", "placeholder", "icon", "language", "page", "page_script_hash", "data", "json"}


def markdown_of(message: Message) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every text in an element that Streamlit reads as Markdown."""
    name = message.DESCRIPTOR.name
    if name in PLAIN:
        return
    for field, value in message.ListFields():
        if field.name in PLAIN or (field.name == "options" and name in ("Selectbox", "MultiSelect", "Slider")):
            continue
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from markdown_of(one)
            elif isinstance(one, str):
                yield f"{name}.{field.name}", one


def rendered(test: AppTest) -> list[str]:
    """Return what of `MARKUP` the page would show as markup, with the place and the text around it."""
    found = []
    for node in test._tree[0], test._tree[1]:
        for element in node:
            proto = getattr(element, "proto", None)
            if isinstance(proto, Message):
                found += [f"{kind} in {path}: {text[:300]}" for path, text in markdown_of(proto)
                          for kind, pattern in RENDERED.items() if re.search(pattern, text)]
    for element in test.get("html"):
        if re.search(r"<(img|a) (src|href)=http://evil", element.proto.body):
            found.append(f"HTML: {element.proto.body[:300]}")
    for data in component_data(test, "rampart_live_plot"):
        found += [f"a link in a chart: {text[:200]}" for text in _texts(json.loads(data["figure"]))
                  if re.search(r"<(a|img) ", text)]
    for data in component_data(test, "rampart_live_html"):
        if re.search(r"<(img|a) (src|href)=http://evil", data["html"]):
            found.append(f"live HTML: {data['html'][:300]}")
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(one)
