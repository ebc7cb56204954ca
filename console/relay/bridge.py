"""Carries bytes between a browser's WebSocket, as raw ASGI, and a machine.

Nothing is parsed that need not be, and nothing is held beyond a few hundred KB: whoever does
not take what is sent to him stops the one who sends it. `receive` and `send` are those of the
ASGI server; its `send` must wait while the browser takes nothing (ours does, see
labportal.server). The end does not depend on any callback: whichever side goes first, the
other is closed before the bridge returns.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from . import rfb
from .endings import Ending, RelayError, Stop
from .flow import Connection, Exactly, Terminal
from .vnc import VncConnection

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HANDSHAKE_SECONDS = 10
CONTROL_LIMIT = 1024  # characters of one control message of a terminal
SIZE_LIMIT = 1000  # columns and rows of a terminal
RESIZE_SECONDS = 0.05  # between two changes of the size


def accept() -> dict[str, Any]:
    """The answer to websocket.connect. `stream` tells our server that binary messages are
    pieces of one stream, which it may join."""
    return {"type": "websocket.accept", "stream": True}


def close(ending: Ending) -> dict[str, Any]:
    """The last message to a browser whose console is over, or could not be opened."""
    return {"type": "websocket.close", "code": ending.close_code, "reason": ending.value}


async def bridge_vnc(receive: Receive, send: Send, connection: VncConnection, *, stop: asyncio.Event) -> Ending:
    """Be a VNC server without password towards the browser and carry bytes until one side ends.

    The WebSocket is accepted already; it and `connection` are closed in any case. Setting
    `stop` ends the console; a `Stop` says as what. Answers why it ended.
    """
    greeted = asyncio.Event()

    async def to_machine() -> Ending:
        viewer = Exactly(lambda: _next_bytes(receive))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await rfb.greet(viewer, lambda data: send({"type": "websocket.send", "bytes": data}))
        except TimeoutError:
            raise RelayError(Ending.BAD_INPUT, "the viewer did not finish the handshake") from None
        greeted.set()
        data = viewer.rest or await _next_bytes(receive)
        while data:
            connection.write(data)
            await connection.drain()
            data = await _next_bytes(receive)
        return Ending.LEFT

    async def to_browser() -> Ending:
        await greeted.wait()
        await _pump(connection, send)
        return Ending.CLOSED

    return await _until_one_ends(to_machine(), to_browser(), connection, send, stop)


async def bridge_terminal(receive: Receive, send: Send, session: Terminal, *, stop: asyncio.Event) -> Ending:
    """Carry a terminal: binary messages are its bytes, text messages are control in JSON.

    From the browser: {"type": "resize", "cols": 80, "rows": 24}. To it, last of all when the
    shell ended by itself: {"type": "exit", "status": 0}, minus the signal's number when it was
    killed. For the rest see `bridge_vnc`.
    """
    size = _Size(session)

    async def to_machine() -> Ending:
        while (event := await receive())["type"] != "websocket.disconnect":
            if data := event.get("bytes"):
                session.write(data)
                await session.drain()
            elif text := event.get("text"):
                size.ask(*_wanted_size(text))
        return Ending.LEFT

    async def to_browser() -> Ending:
        await _pump(session, send)
        if session.exit_status is None:
            return Ending.CLOSED
        await send({"type": "websocket.send", "text": json.dumps({"type": "exit", "status": session.exit_status})})
        return Ending.EXITED

    try:
        return await _until_one_ends(to_machine(), to_browser(), session, send, stop)
    finally:
        size.cancel()


async def _until_one_ends(
    to_machine: Coroutine[Any, Any, Ending], to_browser: Coroutine[Any, Any, Ending], connection: Connection, send: Send, stop: asyncio.Event
) -> Ending:
    pumps = [asyncio.ensure_future(_told(to_machine)), asyncio.ensure_future(_told(to_browser))]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([*pumps, stopped], return_when=asyncio.FIRST_COMPLETED)
        ending = next((pump.result() for pump in pumps if pump.done()), None) or (stop.ending if isinstance(stop, Stop) else Ending.REVOKED)
    finally:
        connection.close()
        for task in (*pumps, stopped):
            task.cancel()
        await asyncio.gather(*pumps, stopped, return_exceptions=True)
    if ending is not Ending.LEFT:
        await send(close(ending))
    return ending


async def _told(pump: Coroutine[Any, Any, Ending]) -> Ending:
    """What ends a pump in the ordinary course of things is an ending, not an error."""
    try:
        return await pump
    except RelayError as error:
        return error.code
    except (EOFError, OSError):  # the browser left; some ASGI servers say so from `send`
        return Ending.LEFT


async def _pump(connection: Connection, send: Send) -> None:
    while data := await connection.read():
        await send({"type": "websocket.send", "bytes": data})


async def _next_bytes(receive: Receive) -> bytes:
    """The next bytes of a browser that sends nothing else; b"" when it has left. Raises RelayError(BAD_INPUT)."""
    while (event := await receive())["type"] != "websocket.disconnect":
        data: bytes | None = event.get("bytes")
        if data:
            return data
        if event.get("text"):
            raise RelayError(Ending.BAD_INPUT, "a text message on a screen's socket")
    return b""


def _wanted_size(text: str) -> tuple[int, int]:
    """Raises RelayError(BAD_INPUT) for anything but a sensible resize."""
    try:
        control = json.loads(text) if len(text) <= CONTROL_LIMIT else None
    except (ValueError, RecursionError):
        control = None
    match control:
        case {"type": "resize", "cols": int(cols), "rows": int(rows)} if 0 < cols <= SIZE_LIMIT and 0 < rows <= SIZE_LIMIT:
            return int(cols), int(rows)
    raise RelayError(Ending.BAD_INPUT, "a control message that is none")


class _Size:
    """Passes sizes on, the first at once and then the newest every 50 ms, however fast they come."""

    def __init__(self, session: Terminal) -> None:
        self._session = session
        self._newest: tuple[int, int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, cols: int, rows: int) -> None:
        self._newest = cols, rows
        if self._timer is None:
            self._pass_on()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _pass_on(self) -> None:
        self._timer = None
        if self._newest is not None:
            self._session.resize(*self._newest)
            self._newest = None
            self._timer = asyncio.get_running_loop().call_later(RESIZE_SECONDS, self._pass_on)
