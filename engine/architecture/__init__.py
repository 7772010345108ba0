"""Architectures as values: genotypes, placement of their cells, costs and networks. Imports no torch."""
