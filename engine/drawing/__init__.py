"""Drawings of cells as SVG, layout of the drawings, and the look of operations. Imports neither torch nor the dashboard."""
