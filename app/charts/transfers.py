"""The transfer map: the accuracy of each network on adversarial images that were made on each network."""

from __future__ import annotations

import textwrap

from app import theme
from app.charts.frame import Figure, themed
from app.charts.outcomes import BLUES
from app.charts.robustness import network_axis
from app.formats import interval, percent, with_interval
from engine.attack.catalogue import ATTACKS
from engine.report.transfers import TransferCell, TransferMap, TransferNetwork

MOST_NETWORKS = 10  # more would leave too little space for the intervals
ROW_HEIGHT, FRAME_HEIGHT = 78, 122  # pixels
LINE_OF_LABELS = 100  # characters in a line of all sources' names side by side
NO_RESULT = "not measured"


def transfer_height(networks: int) -> int:
    """Return the height in pixels of a transfer map of this number of networks."""
    return FRAME_HEIGHT + ROW_HEIGHT * min(networks, MOST_NETWORKS)


def transfer_figure(transfers: TransferMap) -> Figure:
    """Return a heat map with the attacked networks as rows and the networks that made the images as columns.

    On the diagonal, the attack used the gradients of the attacked network itself. These cells are framed and named "white-box".
    A cell without a result says so. At most `MOST_NETWORKS` networks are drawn.
    """
    networks = transfers.networks[:MOST_NETWORKS]
    grid = [[transfers.cells.get((source.network, target.network)) for source in networks] for target in networks]
    figure = Figure()
    figure.add_heatmap(
        z=[[None if cell is None else cell.result.accuracy for cell in line] for line in grid], zmin=0, zmax=1, colorscale=BLUES,
        showscale=False, xgap=3, ygap=3, hoverinfo="text", hoverongaps=True, texttemplate="%{text}",
        text=[[_text(cell, row == column) for column, cell in enumerate(line)] for row, line in enumerate(grid)],
        hovertext=[[_hover(transfers, source, target, cell) for source, cell in zip(networks, line, strict=True)]
                   for target, line in zip(networks, grid, strict=True)])
    themed(figure, legend=False, margin={"l": 10, "r": 10, "t": 34, "b": 64})
    network_axis(figure, [network.label for network in networks])
    figure.update_layout(hovermode="closest", yaxis={"title": {"text": "Attacked network", "standoff": 14}}, xaxis={
        "title": {"text": "Network on which the images were made"}, "showgrid": False, "automargin": True, "tickangle": 0,
        "range": [-0.5, len(networks) - 0.5], "tickvals": list(range(len(networks))),
        "ticktext": ["<br>".join(textwrap.wrap(network.label, LINE_OF_LABELS // len(networks))) for network in networks]})
    for place in range(len(networks)):
        figure.add_shape(type="rect", x0=place - 0.49, x1=place + 0.49, y0=place - 0.48, y1=place + 0.48,
                         line={"color": theme.SERIES["neutral"], "width": 1.5})
    for row, line in enumerate(grid):
        for column, cell in enumerate(line):
            if cell is None:
                figure.add_annotation(x=column, y=row, text=NO_RESULT, showarrow=False, opacity=0.65)
    return figure


def _text(cell: TransferCell | None, white_box: bool) -> str:
    if cell is None:
        return ""
    lines = [f"<b>{percent(cell.result.accuracy)}</b>", interval(cell.result.low, cell.result.high)]
    return "<br>".join([*lines, "white-box"] if white_box else lines)


def _hover(transfers: TransferMap, source: TransferNetwork, target: TransferNetwork, cell: TransferCell | None) -> str:
    attack = ATTACKS[transfers.attack].title
    made = "itself (white-box)" if source == target else source.label
    head = f"<b>{target.label}</b><br>{attack} on {made}: "
    if cell is None:
        return f"{head}{NO_RESULT}"
    result = cell.result
    return f"{head}{with_interval(result.accuracy, result.low, result.high)}, {result.images:,} images<br>{cell.run}"
