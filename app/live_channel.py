"""The connection that tells open pages which data have changed.

A page opens one WebSocket at `live/<name of the hub>`. It sends what it shows as {"topics": [topic, ...], "values": {name:
revision}}, first at once and then whenever this changes. The server answers with {"signatures": {topic: signature}, "values":
{name: message}}, and from then on sends only changes. A message is made by `live_values.LiveValue.since`, or is null if the
server does not know the value. The hub's random name reaches pages only through Streamlit, so no other site can connect.
"""

from __future__ import annotations

import asyncio

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from app import session

MOST = 64  # most topics, and most values, of one page
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
            hub.show(page, *shown(await socket.receive_json()))
    except (WebSocketDisconnect, ValueError):
        return  # the page is closed, or the message is not JSON
    finally:
        hub.leave(page)


def shown(message: object) -> tuple[list[str], dict[str, str]]:
    """Return the topics and the values that a page shows, given its message. Everything malformed is left out."""
    entry = message if isinstance(message, dict) else {}
    topics, values = entry.get("topics"), entry.get("values")
    texts = [one for one in topics[:MOST] if isinstance(one, str)] if isinstance(topics, list) else []
    pairs = list(values.items())[:MOST] if isinstance(values, dict) else []
    return texts, {name: revision for name, revision in pairs if isinstance(revision, str)}


def _send(socket: WebSocket, loop: asyncio.AbstractEventLoop, text: str) -> None:
    """Send a text to a page, from any thread and without waiting. A page that is being closed misses it."""
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(socket.send_text(text), loop)


ROUTES = [WebSocketRoute("/live/{name}", live)]
