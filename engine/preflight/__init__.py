"""Forecasts of the time, memory and disk space that a chain needs, made from finished runs or from a few measured batches.

A separate process measures the batches (`job.py`). It uses random images of the dataset's shape, so the dataset need not be on
this machine. Results are kept in the runs folder, one for each `Shape` (`shape.py`): the settings that affect the cost of a step.
"""
