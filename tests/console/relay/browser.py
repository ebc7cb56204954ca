"""The browser's end of a bridge, as ASGI `receive` and `send`."""

import asyncio
import json

DEADLINE = 5


class Browser:
    """`stalls` makes `send` wait as our server does for a browser that takes nothing."""

    def __init__(self):
        self._events = asyncio.Queue()
        self._news = asyncio.Condition()
        self._takes = asyncio.Event()
        self._takes.set()
        self.shown = b""
        self.told = []
        self.closed = None

    async def receive(self):
        return await self._events.get()

    async def send(self, message):
        await self._takes.wait()
        async with self._news:
            if message["type"] == "websocket.close":
                self.closed = message["code"], message["reason"]
            elif message.get("text"):
                self.told.append(json.loads(message["text"]))
            else:
                self.shown += message["bytes"]
            self._news.notify_all()

    def stall(self):
        self._takes.clear()

    def go_on(self):
        self._takes.set()

    def says(self, data):
        self._events.put_nowait({"type": "websocket.receive", "bytes": data})

    def tells(self, text):
        self._events.put_nowait({"type": "websocket.receive", "text": text if isinstance(text, str) else json.dumps(text)})

    def leaves(self):
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def sees(self, wanted):
        """Wait until the bytes shown satisfy `wanted`, or end with those bytes."""
        seen = wanted if callable(wanted) else lambda: self.shown.endswith(wanted)
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(seen)


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)
