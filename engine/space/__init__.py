"""The search space: supernets as functions of flat vectors, and derived networks as modules."""
