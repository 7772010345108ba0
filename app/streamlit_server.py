"""Streamlit's command line without what the dashboard does not need: `python -OO -P app/streamlit_server.py run app/serve.py`.

* `-OO` leaves out docstrings, which take 20 MB of the server's memory.
* Pages draw figures that are plain dicts. Streamlit would import plotly to set the theme of plotly's own figures: 7 MB.
* SciPy imports all of NumPy, including its translator from Fortran and its test tools, which nothing here calls: 6 MB.
* The C library keeps freed memory: of the arenas that it makes for each thread, about 15 MB are not in use, and it puts large
  blocks between small ones once a large one has been freed. The settings are made here and not in the environment, which the
  workers of runs would inherit.
* Streamlit polls three configuration files five times a second, to read them again after a change: 0.4 % of a core. Here, a
  change needs a restart.
"""

import ctypes
import os
import sys
from types import ModuleType

# {variable by which a user chooses: (number of the option of `mallopt`, value)}. Only the C library of GNU has these options.
# NumPy starts threads, each of which may get an arena, so the number of arenas is set first.
ALLOCATION = {"MALLOC_ARENA_MAX": (-8, 1), "MALLOC_MMAP_THRESHOLD_": (-3, 128 * 1024), "MALLOC_TRIM_THRESHOLD_": (-1, 128 * 1024)}
for _variable, _option in ALLOCATION.items():
    if _variable not in os.environ and (_mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        _mallopt(*_option)

import numpy as np  # noqa: E402

sys.modules["plotly"] = None  # type: ignore[assignment]  # Streamlit does without a package that cannot be imported
for _name in ("f2py", "testing"):
    _empty = sys.modules[f"numpy.{_name}"] = ModuleType(f"numpy.{_name}")
    setattr(np, _name, _empty)

from streamlit.web import bootstrap  # noqa: E402
from streamlit.web.cli import main  # noqa: E402

bootstrap._install_config_watchers = lambda flag_options: None

if __name__ == "__main__":
    main(prog_name="streamlit")
