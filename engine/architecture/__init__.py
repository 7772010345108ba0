"""Architectures as values: genotypes, the placement of their cells, costs and networks. Imports no torch."""
