"""Adversarial attacks: their declarations, the code that runs them, and the evaluation of a network under several of them."""
