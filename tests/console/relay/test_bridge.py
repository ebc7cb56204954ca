"""Both bridges from end to end: what a browser and a machine see of each other, and how it ends."""

import asyncio
import json
from dataclasses import replace

import pytest

from console.relay import bridge
from console.relay.endings import Ending, Stop
from console.relay.flow import HIGH_WATER
from console.relay.ssh import SshTarget, open_ssh
from console.relay.vnc import connect_vnc

from . import ssh_server
from .browser import DEADLINE, Browser, until
from .test_rfb import KEY, UPDATE_REQUEST
from .vnc_server import SERVER_INIT, VncServer, running

GREETING = [b"RFB 003.008\n", b"\x01", b"\x00"]  # the last asks to be alone; the machine is never told


class Screen:
    """A VNC server, a bridge to it and a browser."""

    def __init__(self, **options):
        self.options = options
        self.server, self.browser, self.stop = VncServer(), Browser(), Stop()

    async def __aenter__(self):
        self._running = running(self.server)
        target = await self._running.__aenter__()
        self.connection = await connect_vnc(replace(target, **self.options))
        self.task = asyncio.create_task(bridge.bridge_vnc(self.browser.receive, self.browser.send, self.connection, stop=self.stop))
        return self

    async def __aexit__(self, *_):
        if not self.task.done():
            self.browser.leaves()
            await self.ending()
        assert self.connection._transport.is_closing()
        await self._running.__aexit__(*_)

    async def greeted(self):
        for answer in GREETING:
            self.browser.says(answer)
        await self.browser.sees(SERVER_INIT)

    async def ending(self):
        async with asyncio.timeout(DEADLINE):
            return await self.task


async def test_a_browser_sees_a_server_without_password():
    async with Screen() as screen:
        await screen.greeted()
        assert screen.browser.shown == b"RFB 003.008\n\x01\x01\0\0\0\0" + SERVER_INIT
        assert screen.server.client_init == b"\x01"
        screen.browser.says(KEY)
        await until(lambda: screen.server.received == KEY)
        screen.server.writer.write(b"a picture")
        await screen.browser.sees(b"a picture")
        screen.browser.leaves()
        assert await screen.ending() is Ending.LEFT
        assert screen.browser.closed is None


async def test_a_handshake_in_pieces_or_all_at_once():
    for pieces in ([bytes([byte]) for byte in b"".join(GREETING) + KEY], [b"".join(GREETING) + KEY]):
        async with Screen() as screen:
            for piece in pieces:
                screen.browser.says(piece)
            await until(lambda screen=screen: screen.server.received == KEY)


@pytest.mark.parametrize("greeting", [[b"RFB 003.003\n"], [b"GET / HTTP/1"], [b"RFB 003.008\n", b"\x02"]])
async def test_a_browser_that_does_not_speak_rfb_is_sent_away(greeting):
    async with Screen() as screen:
        for piece in greeting:
            screen.browser.says(piece)
        assert await screen.ending() is Ending.BAD_INPUT
        assert screen.browser.closed == (4009, "bad_input")


async def test_a_browser_that_never_finishes_the_handshake_is_sent_away(monkeypatch):
    monkeypatch.setattr(bridge, "HANDSHAKE_SECONDS", 0.1)
    async with Screen() as screen:
        screen.browser.says(b"RFB")
        assert await screen.ending() is Ending.BAD_INPUT


async def test_text_has_no_place_on_a_screen():
    async with Screen() as screen:
        screen.browser.tells({"type": "resize"})
        assert await screen.ending() is Ending.BAD_INPUT


async def test_a_watcher_moves_nothing():
    async with Screen(view_only=True) as screen:
        await screen.greeted()
        screen.browser.says(KEY[:3])
        screen.browser.says(KEY[3:] + UPDATE_REQUEST)
        await until(lambda: screen.server.received)
        assert screen.server.received == UPDATE_REQUEST
        screen.browser.says(b"\x63")
        assert await screen.ending() is Ending.BAD_INPUT


async def test_the_machine_closes():
    async with Screen() as screen:
        await screen.greeted()
        screen.server.writer.write(b"last words")
        screen.server.writer.close()
        assert await screen.ending() is Ending.CLOSED
        assert screen.browser.shown.endswith(b"last words")
        assert screen.browser.closed == (4000, "closed")


@pytest.mark.parametrize("ending", [Ending.REVOKED, Ending.MACHINE_OFF])
async def test_it_is_ended_from_outside_even_while_the_browser_takes_nothing(ending):
    async with Screen() as screen:
        await screen.greeted()
        screen.browser.stall()
        screen.server.writer.write(bytes(1 << 20))
        await until(lambda: screen.connection._inlet._size)
        screen.stop.end(ending)
        screen.browser.go_on()
        assert await screen.ending() is ending
        assert screen.browser.closed == (ending.close_code, ending.value)


async def test_a_browser_that_takes_nothing_stops_the_machine_and_gets_every_byte_later():
    async with Screen() as screen:
        await screen.greeted()
        before = len(screen.browser.shown)
        screen.browser.stall()
        picture = bytes(range(256)) * (1 << 16)
        screen.server.writer.write(picture)
        await until(lambda: screen.connection._inlet._paused)
        assert screen.connection._inlet._size <= 2 * HIGH_WATER
        screen.browser.go_on()
        await screen.browser.sees(lambda: len(screen.browser.shown) == before + len(picture))
        assert screen.browser.shown[before:] == picture


async def test_a_machine_that_takes_nothing_stops_the_browser(monkeypatch):
    monkeypatch.setattr("console.relay.flow.STALL_SECONDS", 0.3)
    async with Screen() as screen:
        screen.server.reads = False
        await screen.greeted()
        for _ in range(400):
            screen.browser.says(bytes(65536))
        await until(lambda: not screen.connection._outlet._open.is_set())
        assert screen.connection._transport.get_write_buffer_size() <= HIGH_WATER + 65536
        assert await screen.ending() is Ending.TOO_SLOW
        assert screen.browser.closed == (4007, "too_slow")


async def test_a_cancelled_bridge_lets_go_of_the_machine():
    async with Screen() as screen:
        await screen.greeted()
        screen.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await screen.task


class Terminal:
    """An SSH server, a bridge to its shell and a browser."""

    def __init__(self):
        self.browser, self.stop = Browser(), Stop()

    async def __aenter__(self):
        self._running = ssh_server.running()
        port, self.shells = await self._running.__aenter__()
        self.session = await open_ssh(SshTarget("127.0.0.1", port, ssh_server.USERNAME, password=ssh_server.PASSWORD), 80, 24)
        self.task = asyncio.create_task(bridge.bridge_terminal(self.browser.receive, self.browser.send, self.session, stop=self.stop))
        return self

    async def __aexit__(self, *_):
        if not self.task.done():
            self.browser.leaves()
            assert await self.ending() is Ending.LEFT
        await self._running.__aexit__(*_)

    async def ending(self):
        async with asyncio.timeout(DEADLINE):
            return await self.task


async def test_typing_comes_back_and_the_size_arrives():
    async with Terminal() as terminal:
        terminal.browser.tells({"type": "resize", "cols": 132, "rows": 43})
        terminal.browser.says("hé\n".encode())
        await terminal.browser.sees("hé\n".encode())
        assert terminal.shells[0].sizes == [(80, 24), (132, 43)]


async def test_many_sizes_become_the_newest_one():
    async with Terminal() as terminal:
        for cols in range(100, 600):
            terminal.browser.tells({"type": "resize", "cols": cols, "rows": 43})
        await until(lambda: terminal.shells[0].sizes[-1] == (599, 43))
        assert len(terminal.shells[0].sizes) < 50


async def test_the_shell_ends():
    async with Terminal() as terminal:
        terminal.browser.says(b"exit\n")
        assert await terminal.ending() is Ending.EXITED
        assert terminal.browser.told == [{"type": "exit", "status": 7}]
        assert terminal.browser.closed == (1000, "exited")


async def test_the_connection_breaks():
    async with Terminal() as terminal:
        terminal.browser.says(b"drop\n")
        assert await terminal.ending() is Ending.CLOSED
        assert terminal.browser.told == []
        assert terminal.browser.closed == (4000, "closed")


async def test_the_right_to_a_terminal_ends():
    async with Terminal() as terminal:
        terminal.stop.end(Ending.REVOKED)
        assert await terminal.ending() is Ending.REVOKED
        assert terminal.browser.closed == (4001, "revoked")
        async with asyncio.timeout(DEADLINE):
            assert await terminal.session.read() == b""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[" * 1000,
        "1" * 1000,
        "{}",
        "null",
        json.dumps({"type": "exec"}),
        json.dumps({"type": "resize", "cols": 0, "rows": 24}),
        json.dumps({"type": "resize", "cols": 80, "rows": -1}),
        json.dumps({"type": "resize", "cols": 80.5, "rows": 24}),
        json.dumps({"type": "resize", "cols": "80", "rows": 24}),
        json.dumps({"type": "resize", "cols": 80, "rows": 10**9}),
        json.dumps({"type": "resize", "cols": 80, "rows": 24, "padding": "x" * 1024}),
    ],
)
async def test_control_that_makes_no_sense_ends_the_terminal(text):
    async with Terminal() as terminal:
        terminal.browser.tells(text)
        if text:
            assert await terminal.ending() is Ending.BAD_INPUT
            assert terminal.shells[0].sizes == [(80, 24)]


async def test_a_flood_waits_for_the_browser_and_a_key_still_gets_through():
    async with Terminal() as terminal:
        terminal.browser.stall()
        terminal.browser.says(b"flood\n")
        await until(lambda: terminal.session._inlet._paused)
        assert terminal.session._inlet._size <= 2 * HIGH_WATER
        terminal.browser.says(b"exit\n")
        terminal.browser.go_on()
        assert await terminal.ending() is Ending.EXITED


def test_every_ending_has_a_code_a_browser_may_see():
    for ending in Ending:
        assert ending.close_code == 1000 or 4000 <= ending.close_code <= 4999
        assert len(ending.value) <= 123
