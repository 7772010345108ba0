"""Code that executes runs: run folders, processes, run states, and the loops of searches, retrainings and attacks."""
