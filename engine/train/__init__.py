"""Adversarial training of networks: losses, schedule, training step, checkpoint selection. Knows no epoch loop and no files."""
