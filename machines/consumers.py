"""The WebSocket of live pages, as a raw ASGI callable.

The page sends {"listen": [token, …], "since": id} and gets {"topics": […], "seen": {…}}; it answers
each message with {"ok": 1}, and the next one is sent only then.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from channels.db import database_sync_to_async

from accounts.models import User
from accounts.presence import Rounds, Visit, over, visit
from machines.live import Listener, Tail, changed_since, unsign

SIGNED_OUT = 4401
NOT_UNDERSTOOD = 4400

# Pages listen to a handful of topics; this only bounds what one socket may cost.
MOST_TOPICS = 2000
LONGEST_MESSAGE = 64 * 1024

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_tail = Tail()


def _look(visits: dict[Listener, Visit]) -> dict[Listener, str]:
    out = over(visits.values())
    return {listener: "signed_out" for listener, visit in visits.items() if visit in out}


sessions: Rounds[Listener] = Rounds(_look, seconds=30)


async def live(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if (await receive())["type"] != "websocket.connect":
        return
    # Accepted in any case: a browser is not told why a handshake was refused.
    await send({"type": "websocket.accept"})
    user = scope["user"]
    if not user.is_authenticated:
        await send({"type": "websocket.close", "code": SIGNED_OUT})
        return
    page = _Page(user, receive, send)
    sessions.join(page.listener, visit(scope), lambda _: page.signed_out.set())
    tasks = [asyncio.ensure_future(work) for work in (page.hear(), page.tell(), page.stay())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code = done.pop().result()
        if code is not None:
            await send({"type": "websocket.close", "code": code})
    finally:
        sessions.leave(page.listener)
        _tail.remove(page.listener)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Page:
    """Each coroutine ends when the socket shall: with a close code, or None where it is closed."""

    def __init__(self, user: User, receive: Receive, send: Send) -> None:
        self.user, self.receive, self.send = user, receive, send
        self.listener = Listener()
        self.answered = asyncio.Event()
        self.signed_out = asyncio.Event()

    async def hear(self) -> int | None:
        while (message := await self.receive())["type"] == "websocket.receive":
            text = message.get("text") or ""
            try:
                said = json.loads(text) if len(text) <= LONGEST_MESSAGE else None
            except (ValueError, RecursionError):  # hostile nesting included
                said = None
            if not isinstance(said, dict):
                return NOT_UNDERSTOOD
            if "ok" in said:
                self.answered.set()
            elif not await self._listen(said.get("listen"), said.get("since")):
                return NOT_UNDERSTOOD
        return None

    async def _listen(self, tokens: object, since: object) -> bool:
        if not isinstance(tokens, list) or not isinstance(since, int):
            return False
        topics = {topic for token in tokens if isinstance(token, str) for topic in unsign(self.user, token)}
        if len(self.listener.topics | topics) > MOST_TOPICS:
            return False
        _tail.add(self.listener, topics)
        # What changed between the making of the page and this moment.
        self.listener.tell(await database_sync_to_async(changed_since)(since, topics))
        return True

    async def tell(self) -> int | None:
        while True:
            await self.listener.news.wait()
            self.answered.clear()
            await self.send({"type": "websocket.send", "text": json.dumps(self.listener.take())})
            await self.answered.wait()

    async def stay(self) -> int | None:
        """Ends with the session."""
        await self.signed_out.wait()
        return SIGNED_OUT
