"""Results as they are shown and exported: tables of attacked networks, their statistics and their formats."""
