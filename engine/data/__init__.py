"""Datasets, their four disjoint splits, and the images on their way to the device."""
