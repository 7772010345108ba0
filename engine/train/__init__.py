"""Adversarial training of networks: losses, schedules, training step and checkpoint selection."""
