"""Holds a terminal's output back until the browser has drawn what it got.

A WebSocket in a browser is always read, so the network's own back-pressure ends in the page: a
flood would pile up there, and ^C would be seen minutes later. A page that acknowledges what it
has drawn is therefore never sent more than a window beyond that.
"""

import asyncio
import json
from typing import Any

from console.relay.bridge import Receive, Send

WINDOW = 512 * 1024  # bytes sent and not yet drawn


class Credit:
    """Stands between the server's `receive` and `send` and the relay. {"type": "ack", "bytes": n}
    from the browser is taken out here; until the first one comes nothing is held back."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._outstanding = 0
        self._acknowledges = False
        self._room = asyncio.Event()
        self._room.set()

    async def receive(self) -> Any:
        while (drawn := _acknowledged(event := await self._receive())) is not None:
            self._acknowledges = True
            self._outstanding = max(0, self._outstanding - drawn)
            self._look()
        return event

    async def send(self, message: dict[str, Any]) -> None:
        if data := message.get("bytes"):
            await self._room.wait()
            self._outstanding += len(data)
            self._look()
        await self._send(message)

    def _look(self) -> None:
        if self._acknowledges and self._outstanding >= WINDOW:
            self._room.clear()
        else:
            self._room.set()


def _acknowledged(event: Any) -> int | None:
    """The bytes an acknowledgement speaks of; None for anything else."""
    text = event.get("text")
    if not text or len(text) > 100 or '"ack"' not in text:
        return None
    try:
        control = json.loads(text)
    except ValueError:
        return None
    match control:
        case {"type": "ack", "bytes": int(drawn)} if drawn >= 0:
            return drawn
    return None
