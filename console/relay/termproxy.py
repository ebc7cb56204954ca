"""The machine's side of a terminal: its text console at a Proxmox VE hypervisor, which needs
neither an address nor an account in the guest.

Proxmox VE's `termproxy` is told who asks, answers OK, and sends what the guest writes as it is.
What it is sent is framed: `0:LENGTH:DATA` for input (LENGTH in bytes), `1:COLUMNS:ROWS:` for the
window's size, and `2` now and then, or it takes us for gone.
"""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from .endings import Ending, RelayError
from .flow import HIGH_WATER, Exactly, Flow, opening
from .websocket import WebSocketAddress, connect_websocket

OPEN_SECONDS = 10
KEEPALIVE_SECONDS = 30
INPUT = 1024  # bytes in one frame of input: termproxy reads a whole frame into a buffer of a few KB


@dataclass(frozen=True, slots=True)
class TermproxyTarget:
    """A text console that waits to be connected to. `greeting` says who asks: "user:ticket\\n".
    Never leaves the server."""

    websocket: WebSocketAddress
    greeting: str = field(repr=False)


class TermproxySession(Flow, asyncio.Protocol):
    """A guest's text console. See `flow.Terminal`."""

    exit_status = None  # a shell that ends is followed by the guest's next prompt, or by the connection's end

    def __init__(self) -> None:
        super().__init__()
        self._timer: asyncio.TimerHandle | None = None

    async def log_in(self, greeting: str) -> None:
        """Raises RelayError(PROTOCOL), EOFError (a hypervisor that does not take the greeting hangs up)."""
        self._transport.write(greeting.encode())
        server = Exactly(self._inlet.read)
        if await server.take(2) != b"OK":
            raise RelayError(Ending.PROTOCOL, "the text console did not answer OK")
        self._inlet.unread(server.rest)
        self._keep_alive()

    def write(self, data: bytes) -> None:
        pieces = (data[start : start + INPUT] for start in range(0, len(data), INPUT))
        self._transport.write(b"".join(b"0:%d:%b" % (len(piece), piece) for piece in pieces))

    def resize(self, cols: int, rows: int) -> None:
        self._transport.write(b"1:%d:%d:" % (cols, rows))

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._source = self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _keep_alive(self) -> None:
        if self._timer is not None:
            self._transport.write(b"2")
        self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._keep_alive)


async def open_termproxy(target: TermproxyTarget, cols: int, rows: int) -> TermproxySession:
    """Connect, log in and say the window's size, within 10 s.

    Raises RelayError: REFUSED (it refuses or hangs up), TIMEOUT, PROTOCOL, CERTIFICATE.
    """
    async with opening("text console", OPEN_SECONDS):
        session = await connect_websocket(TermproxySession, target.websocket)
        try:
            await session.log_in(target.greeting)
        except BaseException:
            session.close()
            raise
        session.resize(cols, rows)
        return session
