"""A browser's WebSocket, spoken to the portal as its web server does: raw ASGI."""

import asyncio
import struct
from http.cookies import SimpleCookie

from console.consumers import SUBPROTOCOL, TICKET

SECONDS = 10  # for what must happen soon


class Socket:
    """One WebSocket. `accepted` is the subprotocol, `closed` the code and reason, each None before."""

    def __init__(self, application, path, *, cookies=None, ticket=None, origin="http://localhost", subprotocols=None):
        headers = [(b"host", b"localhost")]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        if cookies:
            headers.append((b"cookie", SimpleCookie({name: morsel.value for name, morsel in cookies.items()}).output(header="", sep=";").strip().encode()))
        if subprotocols is None:
            subprotocols = [SUBPROTOCOL] + ([TICKET + ticket] if ticket is not None else [])
        scope = {
            "type": "websocket",
            "path": path,
            "headers": headers,
            "query_string": b"",
            "subprotocols": subprotocols,
            "client": ("192.0.2.7", 40000),
            "server": ("localhost", 80),
        }
        self.accepted = self.closed = None
        self.rejected = False
        self.texts: list[str] = []
        self._to_app: asyncio.Queue = asyncio.Queue()
        self._bytes = bytearray()
        self._news = asyncio.Event()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(application(scope, self._to_app.get, self._take))

    async def _take(self, message):
        match message["type"]:
            case "websocket.accept":
                self.accepted = message.get("subprotocol")
            case "websocket.close":
                self.rejected = self.accepted is None
                self.closed = message.get("code", 1000), message.get("reason", "")
                self._to_app.put_nowait({"type": "websocket.disconnect", "code": self.closed[0]})
            case "websocket.send":
                if message.get("bytes"):
                    self._bytes += message["bytes"]
                if message.get("text"):
                    self.texts.append(message["text"])
        self._news.set()

    def send(self, data: bytes | str) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    async def wait(self, met):
        async with asyncio.timeout(SECONDS):
            while not met():
                assert not self.task.done() or self.task.exception() is None, self.task.exception()
                self._news.clear()
                await self._news.wait()

    async def read(self, size: int) -> bytes:
        await self.wait(lambda: len(self._bytes) >= size)
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        return data

    async def read_until(self, mark: bytes) -> bytes:
        await self.wait(lambda: mark in self._bytes)
        return await self.read(self._bytes.index(mark) + len(mark))

    async def end(self):
        """How it ended: the close code and the reason."""
        await self.wait(lambda: self.closed)
        await asyncio.wait_for(self.task, SECONDS)
        return self.closed

    async def leave(self):
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self.task, SECONDS)

    async def view(self) -> tuple[int, int]:
        """Do as noVNC does until the screen's size is known."""
        assert (await self.read(12)).startswith(b"RFB 003.")
        self.send(b"RFB 003.008\n")
        (count,) = await self.read(1)
        assert 1 in await self.read(count)  # no password: the portal has given it
        self.send(b"\x01")
        assert await self.read(4) == b"\0\0\0\0"
        self.send(b"\x01")
        width, height, name = struct.unpack(">HH16xI", await self.read(24))
        await self.read(name)
        return width, height
