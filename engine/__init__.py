"""Rampart's engine: robust neural architecture search, retraining and attack as detached processes.

Nothing in this package imports `app` or streamlit. Importing `engine` itself imports nothing heavy; modules that need
torch import it themselves, so that the dashboard can use the configuration, the requests and the run log without it.
"""

__version__ = "0.1.0"
