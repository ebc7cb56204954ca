"""A VNC server in a few lines, that shows what it was sent and misbehaves on demand."""

import asyncio
from contextlib import asynccontextmanager

from console.relay import rfb
from console.relay.vnc import VncTarget

from .listening import listening

CHALLENGE = bytes(range(16))
SERVER_INIT = b"\x00\x10\x00\x10" + bytes(16) + b"\x00\x00\x00\x04test"
PASSWORD = "s3cret"


class VncServer:
    """`connected` is set when a viewer got as far as ClientInit; `received` is what came after it."""

    def __init__(self, *, version=b"RFB 003.008\n", security=(2,), password=PASSWORD, refuses="", hangs=False, hangs_up=False):
        self.version, self.security, self.password, self.refuses = version, security, password, refuses
        self.hangs, self.hangs_up = hangs, hangs_up
        self.received = b""
        self.client_init = b""
        self.connected = asyncio.Event()
        self.reads = True

    async def serve(self, reader, writer):
        self.reader, self.writer = reader, writer
        try:
            if self.hangs_up:
                return
            if self.hangs:
                await reader.read()
                return
            await self._talk(reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _talk(self, reader, writer):
        writer.write(self.version)
        answer = await reader.readexactly(12)
        old = answer == b"RFB 003.003\n"
        if self.refuses:
            reason = len(self.refuses).to_bytes(4, "big") + self.refuses.encode()
            writer.write((bytes(4) if old else bytes(1)) + reason)
            return
        if old:
            chosen = self.security[0]
            writer.write(chosen.to_bytes(4, "big"))
        else:
            writer.write(bytes([len(self.security), *self.security]))
            chosen = (await reader.readexactly(1))[0]
        good = True
        if chosen == 2:
            writer.write(CHALLENGE)
            good = await reader.readexactly(16) == rfb.challenge_response(self.password, CHALLENGE)
        if chosen == 2 or answer == b"RFB 003.008\n":
            writer.write(bytes(4) if good else b"\0\0\0\1")
            if not good and answer == b"RFB 003.008\n":
                writer.write(b"\0\0\0\6denied")
        if not good:
            return
        self.client_init = await reader.readexactly(1)
        writer.write(SERVER_INIT)
        self.connected.set()
        while self.reads and (data := await reader.read(65536)):
            self.received += data
        if not self.reads:
            await asyncio.Event().wait()


@asynccontextmanager
async def running(server, path=""):
    """The target of a server that listens, on a Unix socket if there is a path."""
    async with listening(server.serve, path) as port:
        yield VncTarget(path=path, password=PASSWORD) if path else VncTarget(host="127.0.0.1", port=port, password=PASSWORD)
