"""Rampart's engine, which runs robust neural architecture searches, retrainings and attacks as detached processes.

No module of this package imports `app` or streamlit. Importing `engine` itself loads no large package. Only the modules that need
torch import it, so that the dashboard can use the configuration, the requests and the run log without torch.
"""

__version__ = "0.1.0"
