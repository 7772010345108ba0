"""Launchers, which start the workers of runs on this machine or elsewhere."""
