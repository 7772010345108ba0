"""Layout of a small directed graph whose nodes are already assigned to layers, after Sugiyama, Tagawa and Toda 1981.

An edge that spans several layers gets an additional point in each layer between its ends, so that it goes around the nodes there.
The layout has two steps:
1. Barycentre sweeps improve the order within each layer. A sweep sorts nodes and points by the mean position of their neighbours.
   The order with the fewest crossings is kept.
2. The pool-adjacent-violators algorithm chooses the y coordinates. Each y is as near to the mean y of the neighbours as the
   minimal distances within the layer allow.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SWEEPS = 12
_Neighbours = dict[Hashable, list[Hashable]]


@dataclass(frozen=True)
class Link:
    """One edge of the graph.

    Attributes:
        key: any hashable name of the edge. `Placement.paths` is keyed by it.
        source, target: indices of the nodes that the edge joins. The target is in a later layer than the source.
        gap: vertical space in pixels that the edge takes up in each layer between source and target.
    """

    key: Hashable
    source: int
    target: int
    gap: float


@dataclass(frozen=True)
class Placement:
    """Positions of the nodes and edges of a graph.

    A position is (x, y), where x is the number of the layer, from 0 on the left, and y is in pixels, from 0 at the top.

    Attributes:
        nodes: {index of a node: position}.
        paths: {`Link.key`: positions of the edge from source to target, one per layer}.
        layers: number of layers.
        height: largest y.
    """

    nodes: dict[int, tuple[float, float]]
    paths: dict[Any, list[tuple[float, float]]]
    layers: int
    height: float


def place(layer: Mapping[int, int], links: Sequence[Link], *, node_gap: float) -> Placement:
    """Compute the positions of the nodes and edges of a graph.

    Args:
        layer: {index of a node: index of its layer}.
        links: edges of the graph.
        node_gap: vertical space in pixels that a node takes up in its layer.
    """
    rows: list[list[Hashable]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in sorted(layer):
        rows[layer[node]].append(("node", node))
    gaps: dict[Hashable, float] = {("node", node): node_gap for node in layer}
    chains: dict[Hashable, list[Hashable]] = {}
    for link in links:
        chain: list[Hashable] = [("node", link.source)]
        for between in range(layer[link.source] + 1, layer[link.target]):
            point = ("point", link.key, between)
            rows[between].append(point)
            gaps[point] = link.gap
            chain.append(point)
        chains[link.key] = [*chain, ("node", link.target)]
    segments = [pair for chain in chains.values() for pair in zip(chain, chain[1:], strict=False)]
    rows = _ordered(rows, segments)
    heights = _heights(rows, segments, gaps)
    x = {item: float(i) for i, row in enumerate(rows) for item in row}
    return Placement({node: (x["node", node], heights["node", node]) for node in layer},
                     {key: [(x[item], heights[item]) for item in chain] for key, chain in chains.items()},
                     len(rows), max(heights.values()))


def crossings(rows: Sequence[Sequence[Hashable]], segments: Sequence[tuple[Hashable, Hashable]]) -> int:
    """Return the number of pairs of segments that cross. A segment is the part of an edge between two adjacent layers.

    Args:
        rows: nodes and points of each layer, from top to bottom. A point is a place where an edge passes through a layer between
            its ends.
        segments: (start, end) of each segment. Start and end are nodes or points.
    """
    where = {item: (i, j) for i, row in enumerate(rows) for j, item in enumerate(row)}
    ends = [(where[a], where[b]) for a, b in segments]
    return sum(a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0
               for k, (a, b) in enumerate(ends) for c, d in ends[:k])


def _neighbours(segments: Sequence[tuple[Hashable, Hashable]]) -> tuple[_Neighbours, _Neighbours]:
    """Return two dicts {node or point: its neighbours}, one for the previous layer and one for the next layer.

    A point is a place where an edge passes through a layer between its ends.

    Args:
        segments: pairs of a node or point and its neighbour in the next layer.

    Returns:
        before: neighbours in the previous layer.
        after: neighbours in the next layer.
    """
    before: _Neighbours = {}
    after: _Neighbours = {}
    for a, b in segments:
        after.setdefault(a, []).append(b)
        before.setdefault(b, []).append(a)
    return before, after


def _ordered(rows: list[list[Hashable]], segments: Sequence[tuple[Hashable, Hashable]]) -> list[list[Hashable]]:
    """Reorder the nodes and points of each layer by barycentre sweeps, and return the order with the fewest crossings.

    A point is a place where an edge passes through a layer between its ends. Sweeps go through the layers, alternately forwards
    and backwards. In each layer, a sweep sorts the nodes and points by the mean position of their neighbours in the layer visited
    before. The order of the first layer stays fixed.

    Args:
        rows: nodes and points of each layer, from top to bottom.
        segments: (start, end) of each part of an edge between two adjacent layers. The ends are nodes or points.
    """
    before, after = _neighbours(segments)
    best, fewest = [list(row) for row in rows], crossings(rows, segments)
    current = [list(row) for row in rows]
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        for i in range(1, len(current)) if forwards else range(len(current) - 2, 0, -1):
            fixed = current[i - 1 if forwards else i + 1]
            position = {item: j for j, item in enumerate(fixed)}
            side = before if forwards else after
            old = {item: j for j, item in enumerate(current[i])}
            current[i].sort(key=lambda item: _mean([position[n] for n in side.get(item, []) if n in position], old[item]))
        count = crossings(current, segments)
        if count < fewest:
            best, fewest = [list(row) for row in current], count
    return best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _heights(rows: Sequence[Sequence[Hashable]], segments: Sequence[tuple[Hashable, Hashable]],
             gaps: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return {node or point: y in pixels}. The topmost node or point has y 0.

    A point is a place where an edge passes through a layer between its ends. The y of each node and point is as near to the mean
    y of its neighbours as the minimal distances within the layer allow.

    Args:
        rows: nodes and points of each layer, from top to bottom.
        segments: (start, end) of each part of an edge between two adjacent layers. The ends are nodes or points.
        gaps: vertical space in pixels that each node and point takes up.
    """
    before, after = _neighbours(segments)
    heights: dict[Hashable, float] = {}
    for row in rows:
        heights |= dict(zip(row, _spread([0.0] * len(row), row, gaps), strict=True))
    for sweep in range(2 * SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([heights[n] for n in before.get(item, []) + after.get(item, [])], heights[item]) for item in row]
            heights |= dict(zip(row, _spread(wanted, row, gaps), strict=True))
    top = min(heights.values())
    return {item: y - top for item, y in heights.items()}


def _spread(wanted: Sequence[float], row: Sequence[Hashable], gaps: Mapping[Hashable, float]) -> list[float]:
    """Return the y of each node and point in one layer, as close to the wanted y as the order and the minimal distances allow.

    A point is a place where an edge passes through the layer between its ends. The pool-adjacent-violators algorithm minimises
    the sum of squared differences from the wanted y.

    Args:
        wanted: wanted y of each node and point of the layer, in pixels.
        row: nodes and points of the layer, from top to bottom.
        gaps: vertical space in pixels that each node and point takes up. The minimal distance of two neighbours is the mean of
            their two gaps.
    """
    offsets, offset = [], 0.0
    for j, item in enumerate(row):
        if j:
            offset += (gaps[row[j - 1]] + gaps[item]) / 2
        offsets.append(offset)
    pools: list[list[float]] = []  # [sum of wanted heights less offsets, number] of items that move together
    for want, shift in zip(wanted, offsets, strict=True):
        pools.append([want - shift, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    level = [total / count for total, count in pools for _ in range(int(count))]
    return [y + shift for y, shift in zip(level, offsets, strict=True)]
