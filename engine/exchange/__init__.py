"""Architectures and networks on their way out of the studio and into it: files that other programs read and write."""
