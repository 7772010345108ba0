"""Everything about a run while it exists: its folder, its processes (supervisor and worker), its loop and its state."""
