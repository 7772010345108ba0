"""Export of a cell as source text for Graphviz, which other programs can draw or change."""

from __future__ import annotations

from engine.architecture.genotype import Genotype, state_name
from engine.drawing.operations import operation


def to_dot(genotype: Genotype, kind: str) -> str:
    """Return one cell of a genotype as DOT source for Graphviz, with the colours that pages use."""
    from graphviz import Digraph

    cell = genotype.cell(kind)
    graph = Digraph(f"{kind}_cell", graph_attr={"rankdir": "LR", "bgcolor": "transparent"},
                    node_attr={"fontname": "Helvetica", "fontsize": "12"}, edge_attr={"fontname": "Helvetica", "fontsize": "10"})
    for state in range(2 + cell.nodes):
        graph.node(f"s{state}", state_name(state), shape="box" if state < 2 else "circle")
    graph.node("out", "c_{k}", shape="box")
    for name, source, target in cell.incoming():
        style = operation(name)
        graph.edge(f"s{source}", f"s{target}", label=style.short, color=style.colour, penwidth=str(style.width),
                   style={"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashed"}[style.dash])
    for state in cell.concat:
        graph.edge(f"s{state}", "out", color="#B0B7BF", arrowhead="none")
    return str(graph.source)
