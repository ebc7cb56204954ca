"""A stream of bytes inside a WebSocket, as hypervisors behind an HTTPS port offer their consoles.

`connect_websocket` stands where `loop.create_connection` would: the protocol that is made gets a
transport, and does not notice what carries its bytes. Messages have no meaning here, neither
towards the hypervisor nor from it.
"""

import asyncio
import hashlib
import hmac
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from .endings import Ending, RelayError
from .flow import HIGH_WATER

OUTWARDS = 64 * 1024  # bytes in a message at most; Proxmox VE takes 128 KiB
INWARDS = 4 * 1024 * 1024  # a hypervisor that sends more in one message is not trusted with memory
PING_SECONDS = 30  # between two questions whether the hypervisor is still there
_UNANSWERED = 8 * HIGH_WATER  # bytes a hypervisor may leave untaken while it asks for answers

# The library logs headers, which are secret here, where a root logger is set to debug.
_library_logger = logging.getLogger(f"{__name__}.frames")
_library_logger.setLevel(logging.INFO)

_PAYLOAD = (Opcode.BINARY, Opcode.TEXT, Opcode.CONT)
P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class WebSocketAddress:
    """Where a hypervisor offers a console: a wss:// URL, and the `headers` that sign in there.

    Its certificate must be the one with `fingerprint` (SHA-256 in hex, colons or not), or else be
    signed by `ca` (PEM), or else by an authority of this system. Never leaves the server.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    fingerprint: str = ""


async def connect_websocket(make: Callable[[], P], address: WebSocketAddress) -> P:
    """Connect and shake hands; the caller bounds the time. Redirects are not followed, proxies not used.

    Raises RelayError: CERTIFICATE (not trusted; nothing was sent), REFUSED (another answer than a
    WebSocket, or hung up); OSError.
    """
    uri = parse_uri(address.url)
    if not uri.secure:
        raise RelayError(Ending.CERTIFICATE, "secrets go through TLS alone")
    websocket = WebSocketTransport(ClientProtocol(uri, max_size=INWARDS, logger=_library_logger), above := make(), address)
    try:
        await asyncio.get_running_loop().create_connection(lambda: websocket, uri.host, uri.port, ssl=_context(address.ca, bool(address.fingerprint)))
        await websocket.opened
    except ssl.SSLCertVerificationError as error:
        raise RelayError(Ending.CERTIFICATE, f"the hypervisor's certificate: {error.verify_message}") from error
    except BaseException:
        websocket.abort()
        raise
    return above


class WebSocketTransport(asyncio.Transport, asyncio.Protocol):
    """A protocol for the TLS connection below, and a transport for the protocol above.

    `opened` is done when the handshake is: from then on there is a protocol above. Reading is
    paused and resumed below, so that nothing piles up here.
    """

    def __init__(self, frames: ClientProtocol, above: asyncio.Protocol, address: WebSocketAddress) -> None:
        super().__init__()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frames, self._above, self._address = frames, above, address
        self._below: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = True
        self._paused = False

    # -- the connection below --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done. A pinned certificate is looked at before anything is said."""
        self._below = cast(asyncio.Transport, transport)
        if pinned := self._address.fingerprint:
            shown = hashlib.sha256(transport.get_extra_info("ssl_object").getpeercert(binary_form=True)).hexdigest()
            if not hmac.compare_digest(shown, pinned.replace(":", "").lower()):
                self._fail(RelayError(Ending.CERTIFICATE, f"the hypervisor's certificate has the fingerprint {shown}"))
                return
        request = self._frames.connect()
        request.headers.update(self._address.headers)
        self._frames.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        assert self._below is not None
        self._heard = True
        self._frames.receive_data(data)
        self._flush()
        for event in self._frames.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame) and event.opcode in _PAYLOAD:
                if event.data:
                    self._above.data_received(bytes(event.data))
            elif self._below.get_write_buffer_size() > _UNANSWERED:  # asks and asks, and takes no answer
                self._below.abort()
        if self._frames.close_expected():
            self._below.close()

    def _answered(self, response: Response) -> None:
        refused = self._frames.handshake_exc
        if refused is None:
            self._above.connection_made(self)
            self._timer = asyncio.get_running_loop().call_later(PING_SECONDS, self._beat)
            self.opened.set_result(None)
        elif isinstance(refused, InvalidStatus):
            self._fail(RelayError(Ending.REFUSED, f"the hypervisor answered {response.status_code} {response.reason_phrase[:200]}"))
        else:
            self._fail(RelayError(Ending.PROTOCOL, f"the hypervisor does not speak WebSocket: {refused}"))

    def pause_writing(self) -> None:
        if self._is_open:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._above.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_open:
            self._above.connection_lost(exc)
        elif isinstance(self._frames.handshake_exc, InvalidHandshake):
            self._fail(RelayError(Ending.PROTOCOL, f"the hypervisor does not speak WebSocket: {self._frames.handshake_exc}"))
        else:
            self._fail(EOFError("the hypervisor hung up"))

    # -- the protocol above ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), OUTWARDS):
            if self._frames.state is not State.OPEN:
                return
            self._frames.send_binary(bytes(data[start : start + OUTWARDS]))
        self._flush()

    def pause_reading(self) -> None:
        if self._below is not None:
            self._paused = True
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if self._below is not None:
            self._paused, self._heard = False, True
            self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._below is not None:
            self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return 0 if self._below is None else self._below.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._below is None else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._below is None or self._below.is_closing()

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def abort(self) -> None:
        """Let go at once; where the way is free the hypervisor is still told."""
        if self._below is None:
            return
        if self._frames.state is State.OPEN:
            self._frames.send_close(1000)
            self._flush()
        self._below.abort()

    close = abort

    # -- within ----------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        return self.opened.done() and not self.opened.cancelled() and self.opened.exception() is None

    def _flush(self) -> None:
        assert self._below is not None
        for data in self._frames.data_to_send():
            if data and not self._below.is_closing():
                self._below.write(data)

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        if self._below is not None:
            self._below.abort()

    def _beat(self) -> None:
        """A hypervisor that lost its power says nothing, and whatever is in between forgets silent
        connections. While reading is paused nothing can be heard."""
        if not self._heard and not self._paused:
            self.abort()
            return
        if self._frames.state is State.OPEN:
            self._heard = False
            self._frames.send_ping(b"")
            self._flush()
            self._timer = asyncio.get_running_loop().call_later(PING_SECONDS, self._beat)


@lru_cache(maxsize=64)
def _context(ca: str, pinned: bool) -> ssl.SSLContext:
    """Reading a system's authorities takes long enough to be felt, so contexts are kept."""
    if pinned:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # `connection_made` compares the fingerprint
        return context
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise RelayError(Ending.CERTIFICATE, f"the authority's certificate cannot be read: {error}") from error
    if ca:
        # A node's own certificate may be given instead of its authority's, and old authorities lack what newer rules ask for.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
