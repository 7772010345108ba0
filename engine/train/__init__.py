"""Adversarial training of derived networks: losses, schedule, one step, selection. The run's loop owns epochs and data."""
