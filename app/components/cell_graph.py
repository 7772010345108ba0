"""A cell as a picture: states left to right, one edge per chosen operation, each with its own legible label.

The drawing is our own SVG, without the dot binary: layers by depth, an extra layer between any two in which every edge
has a slot for its label, crossings reduced by sweeps, heights by least squares under minimal distances (the steps of
Sugiyama, Tagawa and Toda 1981). Text and surfaces take the theme's colours from the style sheet; operations have the
same colour, dash and width as everywhere. `to_dot` gives the same graph as DOT source for export.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import streamlit as st

from app import theme
from app.components.formats import escape
from app.components.layout import Link, Placement, place
from engine.architecture.genotype import Cell, Genotype, state_name

_SCRIPT = """
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-drawing");
  if (node.__svg === data.html) return;
  node.__svg = data.html;
  node.innerHTML = data.html;
}
"""
_component = st.components.v2.component("rampart_cell_graph", html='<div class="rp-drawing"></div>', js=_SCRIPT,
                                        isolate_styles=False)

PITCH = 76  # pixels from one layer to the next; a label sits on every second one
NODE_RADIUS = 15
INPUT_SIZE, OUTPUT_SIZE = (52, 28), (46, 28)
OUTPUT = -1


def drawing(html: str, *, key: str) -> None:
    """Puts a picture on the page; a redraw with another one replaces it in place. key: unique on the page."""
    _component(data={"html": html}, key=key)


def cell_graph(cell: Cell, *, key: str, title: str, changed: Collection[int] = ()) -> None:
    """Draws one cell; a redraw with another cell replaces the picture in place.

    Args:
        cell: of a genotype.
        key: unique on the page.
        title: for the caption and for screen readers, for example "Robust cell".
        changed: indices into `cell.edges` to be marked as new (see `changed_edges`).
    """
    drawing(_figure(cell, title, changed), key=key)


def _figure(cell: Cell, title: str, changed: Collection[int] = ()) -> str:
    note = f"{len(changed)} edge{'s' if len(changed) != 1 else ''} changed" if changed else ""
    caption = f'<figcaption><b>{escape(title)}</b>{f" · {note}" if note else ""}</figcaption>'
    return f'<figure class="rp-cell">{caption}{cell_svg(cell, title=title, changed=changed)}</figure>'


def genotype_graphs(genotype: Genotype, *, key: str) -> None:
    """All cells of a genotype, in the order in which images meet them, and the legend; beside each other where there is
    room for labels of a readable size, else below each other."""
    kinds = [kind for kind in theme.CELL_TITLES if kind in genotype.kinds]
    figures = "".join(_figure(genotype.cell(kind), theme.cell_title(kind)) for kind in kinds)
    drawing(f'<div class="rp-cells">{figures}</div>', key=f"{key}_cells")
    legend([operation for kind in kinds for operation, _ in genotype.cell(kind).edges], key=f"{key}_legend")


def changed_edges(before: Cell, after: Cell) -> list[int]:
    """Indices of the edges of `after` whose (operation, input) the same node of `before` does not have."""
    old = before.incoming()
    changed = []
    for index, edge in enumerate(after.incoming()):
        if edge in old:
            old.remove(edge)
        else:
            changed.append(index)
    return changed


def legend(operations: Sequence[str], *, key: str) -> None:
    """Colour, dash and width of each operation with its full name, each once, in the order they have everywhere."""
    drawing(legend_html(sorted(set(operations), key=_order)), key=key)


def legend_html(operations: Sequence[str]) -> str:
    """See `legend`."""
    entries = []
    for name in operations:
        style = theme.operation(name)
        line = (f'<svg width="34" height="8" aria-hidden="true"><line x1="1" x2="33" y1="4" y2="4" stroke="{style.colour}" '
                f'stroke-width="{style.width}" stroke-dasharray="{style.dash_array}"/></svg>')
        entries.append(f"<span>{line}{escape(style.title)}</span>")
    return f'<div class="rp-legend">{"".join(entries)}</div>'


def cell_svg(cell: Cell, *, title: str, changed: Collection[int] = ()) -> str:
    """The cell as one SVG element, transparent, scaling to its container."""
    placement, concat = _placed(cell)
    width, height = (placement.layers - 1) * PITCH + 100, placement.height + 40

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return 50 + point[0] * PITCH, 20 + point[1]

    lines, labels = [], []
    for state in concat:
        lines.append(f'<path class="rp-concat" d="{_curve([at(p) for p in placement.paths[("concat", state)]])}"/>')
    for index, (name, _, _) in enumerate(cell.incoming()):
        points = [at(p) for p in placement.paths[("edge", index)]]
        lines.append(_edge(name, _curve(points), index in changed))
        labels.append(_label(name, points[_label_point(len(points))], index in changed))
    nodes = [_node(state, at(placement.nodes[state])) for state in sorted(placement.nodes)]
    text = description(cell, title)
    # A cell fits itself to its column, but never so small that its labels cannot be read: then the figure scrolls.
    size = f"max-width:{width * 1.1:.0f}px;min-width:{width * 0.58:.0f}px"
    return (f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="{size}" role="img" '
            f'aria-label="{escape(text)}">{"".join(lines)}{"".join(labels)}{"".join(nodes)}</svg>')


def description(cell: Cell, title: str) -> str:
    """The cell in words, for screen readers."""
    edges = "; ".join(f"{theme.operation(name).title} from {state_name(source)} to {state_name(target)}"
                      for name, source, target in cell.incoming())
    return f"{title}: {edges}. Output joins nodes {', '.join(state_name(s) for s in cell.concat)}."


def to_dot(genotype: Genotype, kind: str) -> str:
    """One cell as DOT source, for graphviz users. Colours as on the page."""
    from graphviz import Digraph

    cell = genotype.cell(kind)
    graph = Digraph(f"{kind}_cell", graph_attr={"rankdir": "LR", "bgcolor": "transparent"},
                    node_attr={"fontname": "Helvetica", "fontsize": "12"}, edge_attr={"fontname": "Helvetica", "fontsize": "10"})
    for state in range(2 + cell.nodes):
        graph.node(f"s{state}", state_name(state), shape="box" if state < 2 else "circle")
    graph.node("out", "c_{k}", shape="box")
    for name, source, target in cell.incoming():
        style = theme.operation(name)
        graph.edge(f"s{source}", f"s{target}", label=style.short, color=style.colour, penwidth=str(style.width),
                   style={"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashed"}[style.dash])
    for state in cell.concat:
        graph.edge(f"s{state}", "out", color="#B0B7BF", arrowhead="none")
    return graph.source


def _order(name: str) -> int:
    names = list(theme.OPERATIONS)
    return names.index(name) if name in names else len(names)


def _placed(cell: Cell) -> tuple[Placement, tuple[int, ...]]:
    """Layers: inputs 0, a node two behind its latest input, the output behind all; odd layers hold labels."""
    layer = {0: 0, 1: 0}
    for _, source, target in cell.incoming():
        layer[target] = max(layer.get(target, 0), layer[source] + 2)
    layer[OUTPUT] = max(layer.values()) + 1
    links = [Link(("edge", index), source, target, 27.0) for index, (_, source, target) in enumerate(cell.incoming())]
    links += [Link(("concat", state), state, OUTPUT, 15.0) for state in cell.concat]
    return place(layer, links, node_gap=46.0), cell.concat


def _label_point(points: int) -> int:
    """Which point of an edge carries its label: the label layer right behind the middle of a long edge's first half."""
    return 1 if points <= 3 else 2 * ((points - 1) // 4) + 1


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth path through points of growing x: horizontal tangents at each."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        middle = (x0 + x1) / 2
        path += f" C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return path


def _edge(name: str, path: str, changed: bool) -> str:
    style = theme.operation(name)
    halo = f'<path class="rp-changed-halo" stroke-width="{style.width + 9}" d="{path}"/>' if changed else ""
    dash = f' stroke-dasharray="{style.dash_array}"' if style.dash_array else ""
    return f'{halo}<path d="{path}" fill="none" stroke="{style.colour}" stroke-width="{style.width}"{dash}/>'


def _label(name: str, point: tuple[float, float], changed: bool) -> str:
    mark = '<tspan class="rp-changed-mark">✱ </tspan>' if changed else ""
    return (f'<text class="rp-edge-label" x="{point[0]:.1f}" y="{point[1] + 4:.1f}" text-anchor="middle">'
            f"{mark}{escape(theme.operation(name).short)}</text>")


def _node(state: int, point: tuple[float, float]) -> str:
    x, y = point
    if state >= 2:
        return (f'<circle class="rp-node" cx="{x:.1f}" cy="{y:.1f}" r="{NODE_RADIUS}"/>'
                f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" font-size="13" font-weight="600">'
                f"{state_name(state)}</text>")
    width, height = OUTPUT_SIZE if state == OUTPUT else INPUT_SIZE
    subscript = "k" if state == OUTPUT else state_name(state)[3:-1].replace("-", "−")
    return (f'<rect class="rp-node rp-node-in" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width}" '
            f'height="{height}" rx="7"/>'
            f'<text x="{x:.1f}" y="{y + 3:.1f}" text-anchor="middle" font-size="13">'
            f'c<tspan font-size="10" dy="4">{subscript}</tspan></text>')
