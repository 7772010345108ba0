"""The dashboard as a web application: Streamlit's pages, downloads, and the connection that tells open pages about changes.

Every request passes one gate first (`app.access`).

`streamlit run app/serve.py` starts it. It begins to read the runs at once, before the first page is opened.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `streamlit run` adds only the folder of this file
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from streamlit import config  # noqa: E402

from app import downloads, fronts, live_channel, session  # noqa: E402
from app.access import identity, settings  # noqa: E402
from app.access.gate import Gate  # noqa: E402
from app.webhook import VARIABLE, Webhook  # noqa: E402
from engine import requests  # noqa: E402
from engine.errors import ConfigError  # noqa: E402

LONGEST_S = 600.0  # if the first reading takes longer, no alerts are sent


def read() -> None:
    """Read the runs, compute in advance what some pages show first, and begin to send alerts."""
    if session.hub(fronts.prepare).wait(LONGEST_S):
        send_alerts()
        gc.collect()  # the first reading leaves 20 MB in cycles, which Python would keep for long


def send_alerts() -> None:
    """Send alerts to the webhook from now on, if there is one."""
    if url := os.environ.get(VARIABLE):
        try:
            session.hub().alerts.send_to(Webhook(url, session.runs_root()))
        except ConfigError as refusal:  # `rampart ui` refuses such an address itself
            logging.getLogger(__name__).warning("%s No alert is sent.", refusal)


@asynccontextmanager
async def reading(_: st.App) -> AsyncIterator[None]:
    """Read the runs in the background while the server runs, and get ready for the first launch."""
    threading.Thread(target=read, daemon=True).start()
    threading.Thread(target=requests.get_ready, daemon=True).start()
    yield


def gate() -> Middleware:
    """Return the gate, which every request must pass, as middleware. The settings say whether it asks for a token or a login.

    Also tell `engine.acts` how to find the acting user.
    """
    address, port = config.get_option("server.address"), config.get_option("server.port")
    door = settings.door(session.runs_root(), address, port)
    identity.install(door)
    return Middleware(Gate, hosts=settings.hosts(address), door=door)


app = st.App(Path(__file__).with_name("main.py"), routes=[*live_channel.ROUTES, *downloads.ROUTES], middleware=[gate()],
             lifespan=reading)
