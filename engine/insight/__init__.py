"""What a run shows from the inside, computed from the run log: alphas, genotypes, collapse, objectives, alerts and sentences."""
