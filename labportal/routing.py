"""Every WebSocket path of the portal."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.urls import re_path

from console.routing import websocket_urlpatterns as console_urlpatterns
from machines.routing import websocket_urlpatterns as machines_urlpatterns


async def refuse(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """For paths that are none, which Channels would answer with a 500 and a traceback."""
    await receive()
    await send({"type": "websocket.close"})


websocket_urlpatterns = [
    *console_urlpatterns,
    *machines_urlpatterns,
    re_path(r"", refuse),  # type: ignore[arg-type]  # last
]
