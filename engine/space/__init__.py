"""Search space: the supernet as a function of flat vectors, the derived network as a module, their primitives and names."""
