"""Compiled CPU kernels for a cell of the supernet: the same function as the plain back ends, several times faster."""
