"""Datasets, their four disjoint splits, and the loading of images to the device."""
