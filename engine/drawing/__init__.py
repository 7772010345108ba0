"""Drawings of cells as SVG, with their layout and the look of operations. Imports neither torch nor the dashboard."""
