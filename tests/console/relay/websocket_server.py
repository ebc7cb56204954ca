"""A hypervisor's port for consoles: WebSockets over TLS, with certificates of this test run."""

import asyncio
import datetime
import ipaddress
import ssl
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from console.relay.websocket import WebSocketAddress

from .listening import listening


@dataclass(frozen=True)
class Certificate:
    pem: str
    context: ssl.SSLContext
    fingerprint: str


@cache
def certificate(name="hypervisor"):
    """Signed by itself, for 127.0.0.1. Another name, another certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(1), now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(private + pem)
        context.load_cert_chain(file.name)
    return Certificate(pem.decode(), context, made.fingerprint(hashes.SHA256()).hex(":").upper())


def address(port, **options):
    return replace(WebSocketAddress(f"wss://127.0.0.1:{port}/vncwebsocket?port=5900&vncticket=x", ca=certificate().pem), **options)


@asynccontextmanager
async def websocket_server(handle, **options):
    """The address where `handle(websocket)` answers. `requests` of the server are those it was asked."""
    async with serve(handle, "127.0.0.1", 0, ssl=certificate().context, compression=None, close_timeout=0.1, **options) as server:
        yield address(server.sockets[0].getsockname()[1])


@asynccontextmanager
async def tls_server(talk):
    """The address where `talk(reader, writer)` says what it likes."""

    async def secured(reader, writer):
        with suppress(OSError, asyncio.IncompleteReadError):
            await writer.start_tls(certificate().context)
            await talk(reader, writer)
        writer.close()

    async with listening(secured) as port:
        yield address(port)


class Wire:
    """A WebSocket, seen by a server that expects a stream of bytes."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.reader = asyncio.StreamReader()
        self._unsent = asyncio.Queue()

    def write(self, data):
        self._unsent.put_nowait(data)

    def close(self):
        self._unsent.put_nowait(None)

    async def carry(self, serve):
        """Until `serve(reader, writer)` has closed or the other side has gone."""
        serving = asyncio.create_task(serve(self.reader, self))
        feeding = asyncio.create_task(self._feed())
        try:
            with suppress(ConnectionClosed):
                while (data := await self._unsent.get()) is not None:
                    await self.websocket.send(data)
        finally:
            for task in (serving, feeding):
                task.cancel()
            await asyncio.gather(serving, feeding, return_exceptions=True)

    async def _feed(self):
        with suppress(ConnectionClosed):
            async for data in self.websocket:
                self.reader.feed_data(data)
        self.reader.feed_eof()
        self.close()
