"""Time, memory and disk space of a chain before its launch, from finished runs or from a few measured batches.

A separate process measures the batches (`job.py`), on random images of the dataset's shape, so the dataset need not be there. The
results are kept in the runs folder for each shape of a configuration (`shape.py`).
"""
