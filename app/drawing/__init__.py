"""Drawings of cells and networks as SVG, with layout and legends.

Most functions return text; `cell_graph.drawing` puts it on the page.
"""
