"""The dashboard. It shows the run log and sends requests through `engine.requests`. It never imports torch."""
