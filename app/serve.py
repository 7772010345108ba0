"""The dashboard as a web application: Streamlit's pages, the connection that tells open pages about changes,
and downloads.

`streamlit run app/serve.py` starts it. It begins to read the runs at once, before the first page is opened.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `streamlit run` adds only the folder of this file
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app import downloads, live_channel, session  # noqa: E402
from engine import requests  # noqa: E402


@asynccontextmanager
async def reading(_: st.App) -> AsyncIterator[None]:
    """Read the runs in the background while the server runs, and get ready for the first launch."""
    threading.Thread(target=session.hub, daemon=True).start()
    threading.Thread(target=requests.get_ready, daemon=True).start()
    yield


app = st.App(Path(__file__).with_name("main.py"), routes=[*live_channel.ROUTES, *downloads.ROUTES], lifespan=reading)
