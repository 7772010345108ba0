"""Runs: folders, processes (supervisor and workers), loops and computed state."""
