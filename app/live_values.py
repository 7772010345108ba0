"""Values that the server sends to open pages whenever they change: figures and pieces of HTML, without a rerun of the page.

A page draws a value once. The hub (`hub.Hub`) draws it again when its data have changed, and sends the difference: for a figure,
the new points of each trace. The same function draws the value for the page and for the hub, so both show the same.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic_core import from_json

from app.charts.frame import PlainFigure, figure_json

MOST_VALUES = 256
# A figure is not drawn again for this time in seconds. The hub usually pauses for longer between two checks for changes, so it
# draws every figure at every check. A rest longer than that pause would make it skip every second check.
FIGURE_REST_S = 0.9
# A text that took longer than the first of these times is not drawn again for the second, both in seconds. Quicker texts, such as
# the progress, are drawn at every change.
COSTLY_S, COSTLY_REST_S = 0.025, 2.5


@dataclass(frozen=True)
class Feed:
    """The source of a value that changes while a page is open.

    Attributes:
        topic: the hub's name for the data that `draw` reads, for example "training:<id>" (`hub` lists all topics).
        draw: function that returns the value from the run log. The hub's thread calls it, so it must not use the page's session.
        signature: a text that the hub computes for the topic, and that changes when the data change. It was read before the page
            called `draw`.
        about: what `draw` depends on besides the run log, as a text.
    """

    topic: str
    draw: Callable[[], PlainFigure | str]
    signature: str
    about: str = ""

    def name(self, key: str) -> str:
        """Return the name of the value, given the key of the chart or text. Equal names stand for the same function and data."""
        return f"{key} {self.topic} {self.about}"


@dataclass(frozen=True)
class Value:
    """A drawn value: a figure or a piece of HTML.

    Attributes:
        text: a figure as JSON, or HTML.
        revision: hash of the text.
        is_figure: True if the text is a figure.
    """

    text: str
    revision: str
    is_figure: bool

    @classmethod
    def of(cls, drawn: PlainFigure | str) -> Value:
        """Return a figure or a piece of HTML as a `Value`."""
        text = drawn if isinstance(drawn, str) else figure_json(drawn)
        return cls(text, hashlib.sha1(text.encode()).hexdigest()[:12], not isinstance(drawn, str))

    def figure(self) -> PlainFigure:
        """Return the figure, read from its JSON. The figure itself is not kept, because it takes ten times as much memory."""
        figure: PlainFigure = from_json(self.text)
        return figure


@dataclass
class LiveValue:
    """A feed together with its newest value.

    Attributes:
        feed: the feed.
        value, before: the newest value, and the one that it replaced.
        signature: signature of the feed's topic (a text that changes when the data change), read before the newest value was
            drawn.
        rests_until: value of `time.monotonic()` before which the value is not drawn again.
        patches: {revision: message that brings a page from this revision to the newest value}.
    """

    feed: Feed
    value: Value
    before: Value | None = None
    signature: str = ""
    rests_until: float = 0.0
    patches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, feed: Feed, value: Value) -> None:
        """Store a value that a page has just drawn, and its feed."""
        self.feed, self.signature = feed, feed.signature
        if value.revision != self.value.revision:
            self.before, self.value, self.patches = self.value, value, {}

    def is_due(self, signature: str, now: float) -> bool:
        """Return True if the data have changed since the value was drawn, and the value may be drawn again now.

        Args:
            signature: present signature of the feed's topic, a text that changes when the data change.
            now: value of `time.monotonic()`.
        """
        return signature != self.signature and now >= self.rests_until

    def draw(self, signature: str, now: float) -> None:
        """Draw the value again and store it.

        If drawing raises an error, the previous value stays, and it is drawn again only after the data have changed once more.

        Args:
            signature: present signature of the feed's topic.
            now: value of `time.monotonic()` in seconds.
        """
        self.signature, started = signature, time.thread_time()
        self.take(replace(self.feed, signature=signature), Value.of(self.feed.draw()))
        spent = time.thread_time() - started
        if self.value.is_figure:
            self.rests_until = now + FIGURE_REST_S
        elif spent > COSTLY_S:
            self.rests_until = now + COSTLY_REST_S

    def since(self, revision: str) -> dict[str, Any]:
        """Return the message that brings a page from the revision `revision` of the value to the newest revision."""
        value, before, patches = self.value, self.before, self.patches  # a page's thread may store another value meanwhile
        message = patches.get(revision)
        if message is None or message["revision"] != value.revision:
            base = before if before is not None and before.revision == revision else None
            change = figure_change(base.figure(), value.figure()) if base is not None and value.is_figure else None
            content = {"text": value.text} if change is None else {"from": revision} | change
            message = patches[revision] = {"revision": value.revision} | content
        return message


class LiveValues:
    """The live values of all pages, by name. Two pages that use the same name show the same value of the run log."""

    def __init__(self) -> None:
        self._known: dict[str, LiveValue] = {}

    def offer(self, name: str, feed: Feed, value: Value) -> None:
        """Store a value that a page has just drawn, so that it can be kept up to date."""
        known = self._known.pop(name, None) or LiveValue(feed, value)
        known.take(feed, value)
        self._known[name] = known
        while len(self._known) > MOST_VALUES:
            self._known.pop(next(iter(self._known)), None)

    def due(self, names: Iterable[str], signature: Callable[[str], str]) -> list[Callable[[], None]]:
        """Return, for each of the named values whose data have changed, a function that draws the value again.

        A value that was drawn only a moment ago is left out until its rest is over (`LiveValue.rests_until`).

        Args:
            names: names of the values.
            signature: function that returns the signature of a topic, a text that changes when the data of the topic change.
        """
        now = time.monotonic()
        live = [self._known[name] for name in names if name in self._known]
        return [partial(one.draw, current, now) for one in live if one.is_due(current := signature(one.feed.topic), now)]

    def forget_replaced(self) -> None:
        """Drop the replaced values, and the messages made from them. Call this when all pages have the newest values."""
        for live in list(self._known.values()):
            live.before, live.patches = None, {}

    def news(self, shown: dict[str, str]) -> dict[str, dict[str, Any] | None]:
        """Return {name: message} for the outdated values on a page, and update `shown` to the newest revisions.

        If a value is unknown, its message is None and its entry in `shown` is removed. The page must then draw the value itself.

        Args:
            shown: {name of a value on the page: its revision there}, which is changed in place.
        """
        messages: dict[str, dict[str, Any] | None] = {}
        for name, revision in list(shown.items()):
            live = self._known.get(name)
            if live is None:
                messages[name] = None
                shown.pop(name, None)
            elif live.value.revision != revision:
                messages[name] = message = live.since(revision)
                shown[name] = message["revision"]
        return messages


def figure_change(old: PlainFigure, new: PlainFigure) -> dict[str, Any] | None:
    """Return the changes that turn the figure `old` into the figure `new`, or None if the whole new figure has to be sent.

    Returns:
        None if the numbers of traces differ, or if something other than a list has changed in a trace. Otherwise a dict with
        these keys:

        traces: {number of a changed trace, as text: {name of a changed list: [number of points to keep from the beginning, points
            that follow them]}}.
        layout: the whole new layout. The key is missing if the layout has not changed.
    """
    if len(old["data"]) != len(new["data"]):
        return None
    traces = {}
    for number, (one, other) in enumerate(zip(old["data"], new["data"], strict=True)):
        changed = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
        if any(not isinstance(trace.get(name), list) for name in changed for trace in (one, other)):
            return None
        if changed:
            traces[str(number)] = {name: _tail(one[name], other[name]) for name in sorted(changed)}
    return {"traces": traces} | ({} if old["layout"] == new["layout"] else {"layout": new["layout"]})


def _tail(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the number of points that two lists share from the beginning, and the points of the new list that follow."""
    longest = min(len(old), len(new))
    shared = bisect_left(range(1, longest + 1), True, key=lambda count: old[:count] != new[:count])
    return [shared, new[shared:]]
