"""Compiled CPU kernels for the cells of the supernet, and for derived networks in evaluation mode."""
