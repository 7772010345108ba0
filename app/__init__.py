"""The dashboard, which reads the run log, draws it and sends requests through `engine.requests`. It never imports torch."""
