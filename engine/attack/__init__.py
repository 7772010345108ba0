"""Adversarial attacks: declarations, the code that runs an attack, and the evaluation of a network under several attacks."""
