"""Streamlit's command line without what the dashboard does not need: `python -OO -P app/streamlit_server.py run app/serve.py`.

This saves 30 MB of the server's memory. `-OO` leaves out docstrings. Pages draw figures that are plain dicts, but Streamlit would
import plotly to set the theme of plotly's own figures.
"""

import sys

sys.modules["plotly"] = None  # type: ignore[assignment]  # Streamlit does without a package that cannot be imported

from streamlit.web.cli import main  # noqa: E402

if __name__ == "__main__":
    main(prog_name="streamlit")
