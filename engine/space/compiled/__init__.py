"""Compiled CPU kernels that compute a cell of the supernet several times faster than the plain back ends."""
