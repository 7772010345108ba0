"""Architectures as values: genotypes, the placement of their cells, costs and networks. Does not import torch."""
