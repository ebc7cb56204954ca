"""The web server: daphne, with what consoles need and it lacks.

* Back-pressure outwards: `send` waits while the browser does not take what was sent
  (django/daphne#170: otherwise a slow browser costs as much memory as the machine has to say, and
  a file that is streamed to it as much as the file is long).
* Back-pressure inwards: a socket is not read while its application has much to do.
* Binary messages take a short way in and out; text, fragments and control frames stay with
  autobahn. A console's messages may be joined, see `console.relay.bridge.accept`.
* Close codes with reasons, and an end within seconds whatever is open or at work.

Plain TCP only: TLS belongs to the proxy in front.
"""

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from daphne import server as daphne_server
from daphne import ws_protocol
from daphne.endpoints import build_endpoint_description_strings
from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from websockets.speedups import apply_mask
from zope.interface import implementer

from labportal.log import loggable_path

HIGH_WATER = 256 * 1024  # bytes held for one socket in one direction before its source is paused
LOW_WATER = HIGH_WATER // 2
EVENT_COST = 256  # bytes an event in a queue counts besides its payload, so that empty ones are bounded too
MESSAGE_LIMIT = 1024 * 1024  # the largest message a browser may send
PING_SECONDS, PONG_SECONDS = 20, 30
HANDSHAKE_SECONDS = 20
LINGER_SECONDS = 5  # for the last bytes of a closed socket
GRACE_SECONDS = 3  # for what is at work when the server is told to end

access_log = logging.getLogger("labportal.access")

_BINARY = 0x82  # first byte of an unfragmented binary frame
_MASKED = 0x80


def frame_header(length: int) -> bytes:
    """The header of an unmasked, unfragmented binary frame."""
    if length < 126:
        return bytes((_BINARY, length))
    if length < 65536:
        return struct.pack("!BBH", _BINARY, 126, length)
    return struct.pack("!BBQ", _BINARY, 127, length)


def _lean_size(data: bytes, start: int = 0) -> int:
    """Length of the frame at `start` if it takes the short way, else 0: a masked, unfragmented
    binary frame of less than 64 KB. Longer ones come in pieces, which autobahn gathers.
    Of an incomplete header it is at least the header's length."""
    if data[start] != _BINARY or not data[start + 1] & _MASKED:
        return 0
    length = data[start + 1] & ~_MASKED
    if length < 126:
        return 6 + length
    if length == 126:
        return 8 + int.from_bytes(data[start + 2 : start + 4], "big")
    return 0


class Inbox:
    """What a socket received and its application has not taken yet. One reader.

    Pauses the socket above HIGH_WATER and resumes it below LOW_WATER.
    """

    def __init__(self, protocol: "WebSocketProtocol") -> None:
        self._protocol = protocol
        self._events: deque[dict[str, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.size = 0
        self.paused = False

    def put_nowait(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self.size += _cost(event)
        if self.size > HIGH_WATER and not self.paused:
            self.paused = True
            self._protocol.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> dict[str, Any]:
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        self.size -= _cost(event)
        if self.paused and self.size < LOW_WATER:
            self.paused = False
            self._protocol.resume_reading()
        return event


def _cost(event: dict[str, Any]) -> int:
    return EVENT_COST + len(event.get("bytes") or event.get("text") or b"")


@implementer(IPushProducer)
class Pace:
    """That of one answer in pieces: `writable` while the browser takes what is sent, and when it is gone."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()

    def pauseProducing(self) -> None:
        self.writable.clear()

    def resumeProducing(self) -> None:
        self.writable.set()

    def stopProducing(self) -> None:
        self.writable.set()


@implementer(IPushProducer)
class WebSocketProtocol(ws_protocol.WebSocketProtocol):  # type: ignore[misc]
    """One WebSocket. To its transport it is the producer of what goes out."""

    stream = False  # binary messages are pieces of one stream
    application_queue: Inbox
    data: bytes  # received and not understood yet

    def connectionMade(self) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        # HTTPChannel registered itself, and knows nothing of what a WebSocket has to send.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self._writable.set()
        super().connectionLost(reason)

    def dropConnection(self, abort: bool = False) -> None:
        super().dropConnection(abort)
        if not abort:
            # Twisted waits for ever for a peer that does not take the rest.
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abortConnection)

    # -- outwards --------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._writable.clear()

    def resumeProducing(self) -> None:
        self._writable.set()

    def stopProducing(self) -> None:
        self._writable.set()

    async def drain(self) -> None:
        """Wait until the browser has taken enough, or is gone."""
        await self._writable.wait()

    def handle_reply(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.send" and self.state != self.STATE_CONNECTING:
            if self.state == self.STATE_OPEN:  # what comes after a close frame is for nobody
                super().handle_reply(message)
        elif kind == "websocket.accept":
            super().handle_reply(message)
            if message.get("stream"):
                self.stream = True
                self.transport.bufferSize = HIGH_WATER  # also what one read may bring
        elif kind == "websocket.close" and self.state != self.STATE_CONNECTING:
            self.close(message.get("code") or 1000, message.get("reason") or "")
        else:
            super().handle_reply(message)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, once. Unlike autobahn's sendClose it takes every code a server may send."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:123])

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:
        if not binary or self.state != self.STATE_OPEN:
            super().serverSend(content, binary)
            return
        assert isinstance(content, bytes)
        transport = self.transport
        header = frame_header(len(content))
        sent = 0
        if not transport.dataBuffer and not transport._tempDataBuffer:
            # Nothing waits: to the kernel now, without a turn of the event loop and without a copy.
            try:
                sent = transport.socket.sendmsg((header, content))
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
        if sent < len(header):
            transport.writeSequence((header[sent:], content))
        elif sent < len(header) + len(content):
            transport.write(content[sent - len(header) :])

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        # autobahn's own makes coloured log arguments for every write, logged or not.
        self.transport.write(data)

    # -- inwards ---------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self.transport.pauseProducing()
        if self.autoPingTimeoutCall is not None:
            # The answer may lie among what is not read now.
            self._cancelAutoPingTimeoutCall()

    def resume_reading(self) -> None:
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CONNECTING and hasattr(self, "handshake_deferred"):
            self.transport.abortConnection()  # a client has nothing to say before it was answered
            return
        if self.state == self.STATE_OPEN and self.current_frame is None and not self.inside_message:
            data = self._take_binary_frames(self.data + data if self.data else data)
            if len(data) < 2 or _lean_size(data):
                self.data = data  # the beginning of a frame of ours
                return
            self.data = b""
        self._dataReceived(data)

    def _take_binary_frames(self, data: bytes) -> bytes:
        """Queue the whole binary frames at the start of `data`; the rest is the answer."""
        payloads = []
        start = 0
        while len(data) - start >= 6 and (size := _lean_size(data, start)) and start + size <= len(data):
            body = start + (6 if size < 132 else 8)
            payloads.append(apply_mask(data[body : start + size], data[body - 4 : body]))
            start += size
        if payloads and not self.muted:
            self.last_ping = time.time()
            if self.autoPingTimeoutCall is not None:
                self._cancelAutoPingTimeoutCall()
            for payload in [b"".join(payloads)] if self.stream else payloads:
                self.application_queue.put_nowait({"type": "websocket.receive", "bytes": payload})
        return data[start:] if start else data

    def onPing(self, payload: bytes) -> None:
        if self._writable.is_set():  # who sends pings but takes no answers gets none
            super().onPing(payload)

    def check_timeouts(self) -> None:
        if self.state == self.STATE_OPEN and self.application_queue.paused:
            self.last_ping = time.time()
        super().check_timeouts()


class Server(daphne_server.Server):  # type: ignore[misc]
    """The portal's web server on one address. `run` returns after SIGTERM or SIGINT.

    Port 0 takes a free one. `listening` is called with the URL once connections are accepted;
    `failure` says in the end why there were none. `behind_proxy`: the client is whom the proxy's
    X-Forwarded-For names, for requests and for WebSockets.
    """

    def __init__(self, application: Any, *, host: str, port: int, behind_proxy: bool = False, listening: Callable[[str], None] | None = None) -> None:
        super().__init__(
            application=application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            ready_callable=self._use_our_protocol,
            action_logger=log_access,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            websocket_connect_timeout=HANDSHAKE_SECONDS,
            websocket_handshake_timeout=0,  # a timer of autobahn's for what the line above sees to
            websocket_max_message_size=MESSAGE_LIMIT,
            websocket_max_frame_size=MESSAGE_LIMIT,
            proxy_forwarded_address_header="X-Forwarded-For" if behind_proxy else None,
        )
        self.failure = ""
        self._listening = listening
        self._ports: list[Any] = []

    def _use_our_protocol(self) -> None:
        # With its options in the class a connection need not copy them, nor print them prettily for a
        # debug log, which is what autobahn does with those in CONFIG_ATTRS: a tenth of a connect.
        options = {name: getattr(self.ws_factory, name) for name in WebSocketProtocol.CONFIG_ATTRS}
        plain = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
        self.ws_factory.protocol = type("WebSocketProtocol", (WebSocketProtocol,), {**plain, "CONFIG_ATTRS": ()})

    def listen_success(self, port: Any) -> None:
        super().listen_success(port)
        self._ports.append(port)
        if self._listening is not None:
            address = port.getHost()
            host = f"[{address.host}]" if ":" in address.host else address.host
            self._listening(f"http://{host}:{address.port}/")

    def listen_error(self, failure: Any) -> None:
        self.failure = failure.getErrorMessage()
        self.stop()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] != "websocket":
            return super().create_application(protocol, scope)
        inbox = Inbox(protocol)
        scope["asgi"] = {"version": "3.0"}
        application = self.application(scope=scope, receive=inbox.get, send=partial(self.handle_reply, protocol))
        self.connections[protocol]["application_instance"] = asyncio.ensure_future(application)
        return inbox

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await self._reply_in_pieces(protocol, message)
            return
        await super().handle_reply(protocol, message)
        if message["type"] == "websocket.send":
            await protocol.drain()

    async def _reply_in_pieces(self, protocol: Any, message: dict[str, Any]) -> None:
        more = message.get("more_body", False)
        if protocol.channel is not None:  # it is still connected
            if more and protocol.producer is None:
                protocol.registerProducer(Pace(), True)
            elif not more and protocol.producer is not None:
                protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        if more and protocol.channel is not None and protocol.producer is not None:
            await protocol.producer.writable.wait()

    def kill_all_applications(self) -> Any:
        """Called by the reactor when it is told to stop; it waits for what this answers."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._end_applications()))

    async def _end_applications(self) -> None:
        for port in self._ports:
            port.stopListening()
        running: list[asyncio.Future[None]] = []
        for protocol, details in self.connections.items():
            application = details.get("application_instance")
            if application is not None and not application.done():
                running.append(application)
            if isinstance(protocol, WebSocketProtocol):
                protocol.close(1001, "restart")  # browsers come back, to the next server
                if application is not None:
                    application.cancel()
        if running:  # requests may end, sockets write down that they did
            await asyncio.wait(running, timeout=GRACE_SECONDS)


def log_access(protocol: Any, action: str, details: dict[str, Any]) -> None:
    """One line per request and per WebSocket that comes or goes, without what opens doors."""
    path = loggable_path(details["path"])
    if action == "complete":
        access_log.info("%s %s %s %s %.3f s %s B", details["client"], details["method"], path, details["status"], details["time_taken"], details["size"])
    elif action != "connecting":
        access_log.info("%s WebSocket %s %s", details["client"], path, action)
