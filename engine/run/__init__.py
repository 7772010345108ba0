"""Runs: their folders, the processes that work on them (supervisor, worker), the loops, and their computed state."""
