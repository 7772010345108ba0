"""Drawing of a cell as an SVG graph. Inputs are on the left and the output is on the right. Edges are labelled with operations.

`cell_layout` computes the positions. Nodes are placed in layers by their depth. An empty layer between two layers of nodes leaves
space for the labels of edges. The style sheet of the page sets the colours of text and surfaces. The module `operations` defines
the colour, dash and width of the lines.

Drawings next to each other have the same scale. In a narrow column, the drawings shrink until the labels are 11 pixels high. A
drawing that is still too wide scrolls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape

from engine.architecture.genotype import Cell, state_name
from engine.drawing.cell_layout import Link, Placement, place
from engine.drawing.operations import operation

LETTER, MARK = 7.2, 13.0  # widths in pixels: of a letter in a label, and of the mark of a changed edge
GAP = 4.0  # pixels between a label and the nodes before and after it
TO_OUTPUT = 62.0  # pixels from the last node to the output
MARGIN = (34, 20)  # pixels left and right, and above and below, of the centres of the outermost nodes
LABEL = 13  # pixels; size of the labels of edges at full scale, as in the style sheets
SMALLEST = 0.85  # scale at which labels have 11 pixels; a drawing never becomes smaller
SKETCH = 0.4  # scale of a sketch without labels
NODE_RADIUS = 15
INPUT_SIZE, OUTPUT_SIZE = (42, 28), (36, 28)
OUTPUT = -1


def cell_svg(cell: Cell, *, title: str, changed: Collection[int] = (), widest: float = 0.0, pickable: bool = False,
             picked: int | None = None) -> str:
    """Return the drawing of a cell as one transparent SVG element. Its parent needs the CSS `container-type: inline-size`.

    Args:
        cell: the cell.
        title: title of the cell, for screen readers.
        changed: indices of the edges to highlight, in the order of `cell.incoming()`.
        widest: largest `cell_width` of the drawings that must have the same scale; 0 if this is the only drawing.
        pickable: True to add a wide invisible line over each edge, which a reader can click.
        picked: index of the edge whose wide line is visible, because the reader has clicked it; None for no edge.
    """
    placement, concat = _placed(cell)
    width, height = cell_width(cell), placement.height + 2 * MARGIN[1]
    curves = {key: _curve(path) for key, path in placement.paths.items()}
    lines = [f'<path class="rp-concat" data-line="{OUTPUT} {state}" d="{curves[("concat", state)]}"/>' for state in concat]
    labels, targets = [], []
    for index, (name, source, target) in enumerate(cell.incoming()):
        points, line = placement.paths[("edge", index)], f' data-line="{target} {source} {name}"'
        lines.append(_edge(name, curves[("edge", index)], index in changed, line))
        labels.append(_label(index, name, points[_label_point(len(points))], index in changed, line))
        look = "rp-target rp-picked" if index == picked else "rp-target"
        targets.append(f'<path class="{look}" data-edge="{index}" d="{curves[("edge", index)]}"/>')
    nodes = [_node(state, placement.nodes[state]) for state in sorted(placement.nodes)]
    size = f"width:clamp({SMALLEST * width:.0f}px,calc({width / max(widest, width):.4f} * 100cqw),{width:.0f}px)"
    drawn = "".join([*lines, *(targets if pickable else ()), *labels, *nodes])
    return (f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="{size}" role="img" '
            f'aria-label="{escape(description(cell, title))}">{drawn}</svg>')


def cell_sketch(cell: Cell, *, title: str) -> str:
    """Return a small drawing of a cell without labels as one transparent SVG element. All sketches have the same scale.

    Args:
        cell: the cell.
        title: title of the cell, for screen readers.
    """
    placement, concat = _placed(cell)
    width, height = cell_width(cell), placement.height + 2 * MARGIN[1]
    paths = {key: _curve(path) for key, path in placement.paths.items()}
    lines = [f'<path class="rp-concat" d="{paths[("concat", state)]}"/>' for state in concat]
    lines += [_edge(name, paths[("edge", index)], False) for index, (name, _, _) in enumerate(cell.incoming())]
    nodes = [f'<circle class="rp-node" cx="{x:.1f}" cy="{y:.1f}" r="10"/>' for x, y in placement.nodes.values()]
    return (f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{SKETCH * width:.0f}" '
            f'height="{SKETCH * height:.0f}" role="img" aria-label="{escape(description(cell, title))}">'
            f'{"".join(lines)}{"".join(nodes)}</svg>')


def cell_width(cell: Cell) -> float:
    """Return the width in pixels of the drawing of a cell at full scale."""
    return _placed(cell)[0].nodes[OUTPUT][0] + MARGIN[0]


def description(cell: Cell, title: str) -> str:
    """Return a description of the cell in words, for screen readers."""
    edges = "; ".join(f"{operation(name).title} from {state_name(source)} to {state_name(target)}"
                      for name, source, target in cell.incoming())
    return f"{title}: {edges}. Output joins nodes {', '.join(state_name(s) for s in cell.concat)}."


def legend_html(operations: Sequence[str]) -> str:
    """Return a legend of these operations as HTML, in the given order."""
    entries = []
    for name in operations:
        style = operation(name)
        line = (f'<svg width="34" height="8" aria-hidden="true"><line x1="1" x2="33" y1="4" y2="4" stroke="{style.colour}" '
                f'stroke-width="{style.width}" stroke-dasharray="{style.dash_array}"/></svg>')
        entries.append(f"<span>{line}{escape(style.title)}</span>")
    return f'<div class="rp-legend">{"".join(entries)}</div>'


@lru_cache(maxsize=1000)  # a page asks for the same cell at each step of a search
def _placed(cell: Cell) -> tuple[Placement, tuple[int, ...]]:
    """Compute the positions, in pixels, at which the states (inputs and nodes) and the edges of a cell are drawn.

    The inputs are in layer 0. A node is two layers after the latest of its inputs, so that the odd layers are free for labels.
    The output is in the last layer.

    Returns:
        The positions of the states and edges.
        The states that the output concatenates.
    """
    layer = {0: 0, 1: 0}
    for _, source, target in cell.incoming():
        layer[target] = max(layer.get(target, 0), layer[source] + 2)
    layer[OUTPUT] = max(layer.values()) + 1
    links = [Link(("edge", index), source, target, 27.0) for index, (_, source, target) in enumerate(cell.incoming())]
    links += [Link(("concat", state), state, OUTPUT, 15.0) for state in cell.concat]
    placement = place(layer, links, node_gap=46.0)
    x = _columns(cell, placement)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return x[round(point[0])], MARGIN[1] + point[1]

    return replace(placement, nodes={node: at(point) for node, point in placement.nodes.items()},
                   paths={key: [at(point) for point in path] for key, path in placement.paths.items()}), cell.concat


def _columns(cell: Cell, placement: Placement) -> list[float]:
    """Return the x coordinate of each layer in pixels.

    The distance between two layers of nodes follows from the longest label between them.

    Each distance includes space for the mark of a changed edge, even if no edge has changed, so that the drawing keeps its width
    from epoch to epoch.
    """
    widest: dict[int, float] = {}
    for index, (name, _, _) in enumerate(cell.incoming()):
        path = placement.paths[("edge", index)]
        layer = round(path[_label_point(len(path))][0])
        widest[layer] = max(widest.get(layer, 0.0), LETTER * len(operation(name).short) + MARK)
    x = [float(MARGIN[0])]
    for layer in range(1, placement.layers - 1, 2):
        before = INPUT_SIZE[0] / 2 if layer == 1 else NODE_RADIUS
        x.append(x[-1] + before + GAP + widest[layer] / 2)
        x.append(x[-1] + widest[layer] / 2 + GAP + NODE_RADIUS)
    return [*x, x[-1] + TO_OUTPUT]


def _label_point(points: int) -> int:
    """Return the index of the point at which the label of an edge is drawn.

    The index is odd. On a long edge, the point is about a quarter of the way from source to target.

    Args:
        points: number of points of the edge, one per layer.
    """
    return 1 if points <= 3 else 2 * ((points - 1) // 4) + 1


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Return a smooth SVG path through points of increasing x. The path is horizontal at each point."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        middle = (x0 + x1) / 2
        path += f" C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return path


def _edge(name: str, path: str, changed: bool, line: str = "") -> str:
    style = operation(name)
    halo = f'<path class="rp-changed-halo" stroke-width="{style.width + 9}" d="{path}"/>' if changed else ""
    dash = f' stroke-dasharray="{style.dash_array}"' if style.dash_array else ""
    return f'{halo}<path{line} d="{path}" fill="none" stroke="{style.colour}" stroke-width="{style.width}"{dash}/>'


def _label(index: int, name: str, point: tuple[float, float], changed: bool, line: str) -> str:
    mark = '<tspan class="rp-changed-mark">✱ </tspan>' if changed else ""
    return (f'<text class="rp-edge-label" data-edge="{index}"{line} x="{point[0]:.1f}" y="{point[1] + 4:.1f}" '
            f'text-anchor="middle">{mark}{escape(operation(name).short)}</text>')


def _node(state: int, point: tuple[float, float]) -> str:
    x, y = point
    of = f'data-state="{state}"'  # by which a page recognises the node in another drawing
    if state >= 2:
        return (f'<circle {of} class="rp-node" cx="{x:.1f}" cy="{y:.1f}" r="{NODE_RADIUS}"/>'
                f'<text {of} x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" font-size="13" font-weight="600">'
                f"{state_name(state)}</text>")
    width, height = OUTPUT_SIZE if state == OUTPUT else INPUT_SIZE
    subscript = "k" if state == OUTPUT else state_name(state)[3:-1].replace("-", "−")
    return (f'<rect {of} class="rp-node rp-node-in" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width}" '
            f'height="{height}" rx="7"/>'
            f'<text {of} x="{x:.1f}" y="{y + 3:.1f}" text-anchor="middle" font-size="13">'
            f'c<tspan font-size="10" dy="4">{subscript}</tspan></text>')
