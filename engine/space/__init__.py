"""The search space: the supernet as a function of flat vectors, derived networks as modules, and their public tensor names."""
