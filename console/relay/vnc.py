"""The machine's side of a screen: a VNC server that the relay logs in to."""

import asyncio
import socket
from dataclasses import dataclass, field
from typing import cast

from . import rfb
from .endings import Ending, RelayError
from .flow import HIGH_WATER, Exactly, Flow, opening
from .websocket import WebSocketAddress, connect_websocket

OPEN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class VncTarget:
    """Where a VNC server listens: `host` and `port`, or `path` (a Unix socket), or `websocket`. Never leaves the server."""

    host: str = ""
    port: int = 0
    path: str = ""
    websocket: WebSocketAddress | None = None
    password: str = field(default="", repr=False)
    view_only: bool = False


class VncConnection(Flow, asyncio.Protocol):
    """A connection to a VNC server that has let us in. See `flow.Connection`."""

    def __init__(self) -> None:
        super().__init__()
        self._filter: rfb.ViewOnly | None = None

    @property
    def view_only(self) -> bool:
        return self._filter is not None

    async def log_in(self, target: VncTarget) -> None:
        """Raises RelayError, EOFError."""
        server = Exactly(self._inlet.read)
        await rfb.log_in(server, self._transport.write, target.password)
        if server.rest:
            raise RelayError(Ending.PROTOCOL, "the VNC server spoke before it was asked")
        # Never the viewer's own choice: an exclusive one throws out everybody else who looks.
        self._transport.write(rfb.SHARED)
        if target.view_only:
            self._filter = rfb.ViewOnly()

    def write(self, data: bytes) -> None:
        """Raises RelayError(BAD_INPUT) for what a view-only viewer must not or cannot mean."""
        if self._filter is not None:
            data = self._filter.feed(data)
        if data:
            self._transport.write(data)

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._source = self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        connected = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            # A host that lost its power says nothing: ask after 30 s of silence, give up after 30 more.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def connect_vnc(target: VncTarget) -> VncConnection:
    """Connect and log in within 10 s.

    Raises RelayError: REFUSED (nothing listens, or it refuses or hangs up), LOGIN (wrong
    password), TIMEOUT, PROTOCOL (no VNC server), CERTIFICATE.
    """
    async with opening("VNC server", OPEN_SECONDS):
        connection = await _connect(target)
        try:
            await connection.log_in(target)
        except BaseException:
            connection.close()
            raise
        return connection


async def _connect(target: VncTarget) -> VncConnection:
    loop = asyncio.get_running_loop()
    if target.websocket:
        return await connect_websocket(VncConnection, target.websocket)
    if target.path:
        return (await loop.create_unix_connection(VncConnection, target.path))[1]
    return (await loop.create_connection(VncConnection, target.host, target.port))[1]
