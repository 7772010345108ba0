"""Drawings of cells and networks as SVG, with layout and legends.

Most functions return HTML, which `cell_graph.drawing` shows on the page.
"""
