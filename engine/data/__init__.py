"""Datasets, the division of each into four disjoint splits, and the loading of images to the device."""
