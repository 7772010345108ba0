"""The dashboard: reads the run log, draws it, and sends requests through `engine.requests`. Never imports torch."""
