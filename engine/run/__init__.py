"""The execution of runs: run folders, processes (supervisor and workers), the loops of searches and trainings, and run states."""
