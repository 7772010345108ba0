"""The package that carries out runs: run folders, processes (supervisor and workers), loops and the state of runs."""
