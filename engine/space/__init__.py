"""The search space: the supernet as a function of flat vectors, derived networks as modules, their primitives and names."""
