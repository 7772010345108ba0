"""The dashboard's server starts without what `app/streamlit_server.py` leaves out of Streamlit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from tests.app.pages import MAIN
from tests.browser.conftest import start_dashboard

IMPORTED = """
import inspect, sys
import app.streamlit_server
import streamlit
from streamlit.web import bootstrap
from streamlit.watcher.polling_path_watcher import PollingPathWatcher
print(sys.modules["plotly"], "narwhals" in sys.modules, streamlit.write.__doc__)
bootstrap._install_config_watchers({})
print("_install_config_watchers(flag_options)" in inspect.getsource(bootstrap._prepare_asgi_app_run_context))
print(len(PollingPathWatcher._executor._threads))
from engine.study import statistics
print("charset_normalizer" in sys.modules, "unittest" in sys.modules)
"""


def test_no_plotly_no_docstrings_no_unused_parts_of_numpy_and_no_looks_at_configuration_files() -> None:
    command = [sys.executable, "-OO", "-c", IMPORTED]
    found = subprocess.run(command, cwd=MAIN.parents[1], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["None", "False", "None", "True", "0", "False", "False"]


def test_rampart_ui_starts_this_server(tmp_path: Path) -> None:
    server = start_dashboard(tmp_path)
    try:
        command = psutil.Process(server.process.pid).cmdline()
        assert "-OO" in command and str(MAIN.with_name("streamlit_server.py")) in command
    finally:
        server.process.terminate()
        server.process.wait(timeout=30)
