"""Streamlit's command line without what the dashboard does not need: `python -OO -P app/streamlit_server.py run app/serve.py`.

* `-OO` leaves out docstrings, which take 20 MB of the server's memory.
* Pages draw figures that are plain dicts. Streamlit would import plotly to set the theme of plotly's own figures: 7 MB.
* SciPy imports all of NumPy, including its translator from Fortran and its test tools, which nothing here calls: 6 MB.
* Streamlit polls three configuration files five times a second, to read them again after a change: 0.4 % of a core. Here, a
  change needs a restart.
"""

import sys
from types import ModuleType

import numpy as np

sys.modules["plotly"] = None  # type: ignore[assignment]  # Streamlit does without a package that cannot be imported
for _name in ("f2py", "testing"):
    _empty = sys.modules[f"numpy.{_name}"] = ModuleType(f"numpy.{_name}")
    setattr(np, _name, _empty)

from streamlit.web import bootstrap  # noqa: E402
from streamlit.web.cli import main  # noqa: E402

bootstrap._install_config_watchers = lambda flag_options: None

if __name__ == "__main__":
    main(prog_name="streamlit")
