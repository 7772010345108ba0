"""Streamlit's command line without what the dashboard does not need: `python -OO -P app/streamlit_server.py run app/serve.py`.

* `-OO` leaves out docstrings, which take 20 MB of the server's memory.
* Pages draw figures that are plain dicts. Streamlit would import plotly to set the theme of plotly's own figures: 7 MB.
* Streamlit polls three configuration files five times a second, to read them again after a change: 0.4 % of a core. Here, a
  change needs a restart.
"""

import sys

sys.modules["plotly"] = None  # type: ignore[assignment]  # Streamlit does without a package that cannot be imported

from streamlit.web import bootstrap  # noqa: E402
from streamlit.web.cli import main  # noqa: E402

bootstrap._install_config_watchers = lambda flag_options: None

if __name__ == "__main__":
    main(prog_name="streamlit")
