"""The connection over which open pages learn that data have changed.

A page opens one WebSocket at `live/<name of the hub>`. It sends the list of the topics that it shows, and sends it again when it
changes. The server answers with JSON objects {topic: signature}, and sends another one whenever signatures change. The hub's
random name reaches pages only through Streamlit, so no other site can connect.
"""

from __future__ import annotations

import asyncio

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from app import session

MOST_TOPICS = 64  # topics of one page
UNKNOWN = 4404  # code with which a page of an earlier server is refused


async def live(socket: WebSocket) -> None:
    """Serve one open page until it is closed."""
    hub = session.hub_named(socket.path_params["name"])
    await socket.accept()
    if hub is None:
        await socket.close(UNKNOWN)
        return
    loop = asyncio.get_running_loop()
    page = hub.connect(lambda text: _send(socket, loop, text))
    try:
        while True:
            topics = await socket.receive_json()
            hub.show(page, [one for one in topics[:MOST_TOPICS] if isinstance(one, str)] if isinstance(topics, list) else [])
    except (WebSocketDisconnect, ValueError):
        return  # the page is closed, or the message is not JSON
    finally:
        hub.leave(page)


def _send(socket: WebSocket, loop: asyncio.AbstractEventLoop, text: str) -> None:
    """Send a text to a page, from any thread and without waiting. A page that is being closed misses it."""
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(socket.send_text(text), loop)


ROUTES = [WebSocketRoute("/live/{name}", live)]
