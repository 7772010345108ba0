"""Architectures as values: genotypes, where their cells are placed, what they cost, and networks. Imports no torch."""
