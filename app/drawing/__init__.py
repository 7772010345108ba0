"""Cells and networks as SVG: layout, drawing and legends. Text in, text out; `cell_graph.drawing` puts it on the page."""
