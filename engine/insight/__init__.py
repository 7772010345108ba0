"""Analyses of runs, computed from the run log: alphas, genotypes, collapse, objectives, overfitting, alerts, and sentences."""
