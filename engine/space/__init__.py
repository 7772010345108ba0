"""The search space: supernets as functions of flat vectors, derived networks as modules, and public names of their tensors."""
