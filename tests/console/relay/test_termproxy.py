"""A guest's text console at its hypervisor: the greeting, the framing, and what ends it."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from console.relay import bridge, termproxy
from console.relay.endings import Ending, RelayError, Stop
from console.relay.termproxy import TermproxyTarget, open_termproxy

from .browser import DEADLINE, Browser, until
from .websocket_server import Wire, websocket_server

GREETING = "labportal@pve!portal:;D]MH\\%M:PVEVNC:67A::secret==\n"


class Termproxy:
    """Answers the greeting with `answer` and takes frames apart as the helper of Proxmox VE does."""

    def __init__(self, answer=b"OK"):
        self.answer = answer
        self.greeting, self.inputs, self.sizes, self.keep_alives = "", [], [], 0

    async def serve(self, reader, writer):
        self.writer = writer
        self.greeting = (await reader.readuntil(b"\n")).decode()
        if self.answer is None:
            await asyncio.Event().wait()
        writer.write(self.answer)
        while self.answer.startswith(b"OK") and (kind := await reader.readexactly(1)):
            if kind == b"2":
                self.keep_alives += 1
                continue
            assert await reader.readexactly(1) == b":"
            number = int((await reader.readuntil(b":"))[:-1])
            if kind == b"0":
                self.inputs.append(await reader.readexactly(number))
            else:
                self.sizes.append((number, int((await reader.readuntil(b":"))[:-1])))
        writer.close()


@asynccontextmanager
async def running(server):
    async with websocket_server(lambda socket: Wire(socket).carry(server.serve)) as where:
        yield TermproxyTarget(where, GREETING)


async def test_it_greets_types_and_sizes():
    server = Termproxy(b"OKlogin: ")
    async with running(server) as target:
        session = await open_termproxy(target, 80, 24)
        assert server.greeting == GREETING
        assert await session.read() == b"login: "
        session.write("grüße\r".encode())
        session.resize(132, 43)
        session.write(b"x" * 2500)
        await until(lambda: len(b"".join(server.inputs)) == 2508)
        assert server.inputs[0] == "grüße\r".encode()  # counted in bytes
        assert max(map(len, server.inputs)) <= 1024
        assert server.sizes == [(80, 24), (132, 43)]
        server.writer.write(b"raw: 0:1:\xff\0")
        assert await session.read() == b"raw: 0:1:\xff\0"
        session.close()
        assert await session.read() == b""


async def test_what_comes_with_and_after_the_answer_keeps_its_order():
    server = Termproxy(b"O")
    server.serve = _in_pieces
    async with running(server) as target:
        session = await open_termproxy(target, 80, 24)
        seen = b""
        while len(seen) < 3:
            seen += await session.read()
        assert seen == b"123"
        session.close()


async def _in_pieces(reader, writer):
    await reader.readuntil(b"\n")
    for piece in (b"O", b"K1", b"2", b"3"):
        writer.write(piece)
    await reader.read()


async def test_it_says_that_it_is_still_there(monkeypatch):
    monkeypatch.setattr(termproxy, "KEEPALIVE_SECONDS", 0.02)
    server = Termproxy()
    async with running(server) as target:
        session = await open_termproxy(target, 80, 24)
        await until(lambda: server.keep_alives > 2)
        session.close()


@pytest.mark.parametrize(
    ("server", "ending"),
    [
        (Termproxy(b"NO"), Ending.PROTOCOL),
        (Termproxy(b"\xff" * (1 << 20)), Ending.PROTOCOL),
        (Termproxy(b"O"), Ending.REFUSED),
        (Termproxy(None), Ending.TIMEOUT),
    ],
    ids=["no", "flood", "hangs up", "hangs"],
)
async def test_every_way_to_fail_has_its_ending(server, ending, monkeypatch):
    monkeypatch.setattr(termproxy, "OPEN_SECONDS", 0.5)
    async with running(server) as target:
        with pytest.raises(RelayError) as caught:
            await open_termproxy(target, 80, 24)
        assert caught.value.code is ending
        assert "PVEVNC" not in repr(target) + str(caught.value)


async def test_a_browser_types_resizes_and_sees_it_end():
    server, browser = Termproxy(), Browser()
    async with running(server) as target:
        session = await open_termproxy(target, 80, 24)
        task = asyncio.create_task(bridge.bridge_terminal(browser.receive, browser.send, session, stop=Stop()))
        browser.tells({"type": "resize", "cols": 100, "rows": 30})
        browser.says(b"exit\r")
        await until(lambda: server.inputs == [b"exit\r"] and server.sizes[-1] == (100, 30))
        server.writer.write(b"logout")
        await browser.sees(b"logout")
        server.writer.close()
        async with asyncio.timeout(DEADLINE):
            assert await task is Ending.CLOSED
        assert browser.closed == (4000, "closed")
