"""Streamlit's command line without what the dashboard does not need: `python -OO -P app/streamlit_server.py run app/serve.py`.

* `-OO` leaves out docstrings, which take 20 MB of the server's memory.
* Pages draw figures that are plain dicts. Streamlit would import plotly to set the theme of plotly's own figures: 7 MB.
* SciPy imports all of NumPy, including its translator from Fortran and its test tools, which nothing here calls: 6 MB.
* The C library keeps freed memory: of the arenas that it makes for each thread, about 15 MB are not in use, and it puts large
  blocks between small ones once a large one has been freed. The settings are made here and not in the environment, which workers
  inherit.
* Streamlit polls three configuration files five times a second, to read them again after a change: 0.4 % of a core. Here, a
  change needs a restart.
"""

import ctypes
import sys
from types import ModuleType

import numpy as np

# Numbers of the options of `mallopt` in the C library of GNU; others have none or ignore them.
ARENAS, LEAST_BYTES_OF_A_MAPPING, MOST_FREE_BYTES_AT_THE_END = -8, -3, -1
if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
    mallopt(ARENAS, 1)
    mallopt(LEAST_BYTES_OF_A_MAPPING, 128 * 1024)
    mallopt(MOST_FREE_BYTES_AT_THE_END, 128 * 1024)

sys.modules["plotly"] = None  # type: ignore[assignment]  # Streamlit does without a package that cannot be imported
for _name in ("f2py", "testing"):
    _empty = sys.modules[f"numpy.{_name}"] = ModuleType(f"numpy.{_name}")
    setattr(np, _name, _empty)

from streamlit.web import bootstrap  # noqa: E402
from streamlit.web.cli import main  # noqa: E402

bootstrap._install_config_watchers = lambda flag_options: None

if __name__ == "__main__":
    main(prog_name="streamlit")
