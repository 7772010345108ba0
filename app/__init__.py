"""The dashboard: reads the run log, draws, and asks through `engine.requests`. Never imports torch."""
