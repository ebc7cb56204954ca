"""Logging in to VNC servers: every version and kind, and every way to fail, within bounds."""

import asyncio
from dataclasses import replace

import pytest

from console.relay import vnc
from console.relay.endings import Ending, RelayError
from console.relay.flow import HIGH_WATER
from console.relay.vnc import connect_vnc
from tests.console.relay.browser import until
from tests.console.relay.vnc_server import PASSWORD, SERVER_INIT, VncServer, running

from .test_rfb import KEY, UPDATE_REQUEST
from .websocket_server import Wire, websocket_server


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.005\n", b"RFB 003.007\n", b"RFB 003.008\n", b"RFB 003.889\n", b"RFB 004.001\n"])
@pytest.mark.parametrize("security", [(1,), (2,), (16, 2, 1)])
async def test_every_version_and_security_type(version, security):
    server = VncServer(version=version, security=security if version[10:11] in b"789" or version > b"RFB 004" else security[-1:])
    async with running(server) as target:
        connection = await connect_vnc(target)
        assert await connection.read() == SERVER_INIT
        assert server.client_init == b"\x01"  # shared: nobody is thrown out
        connection.write(KEY)
        await until(lambda: server.received == KEY)
        connection.close()
        assert await connection.read() == b""


async def test_a_unix_socket(tmp_path):
    async with running(VncServer(), str(tmp_path / "vnc.sock")) as target:
        connection = await connect_vnc(target)
        assert await connection.read() == SERVER_INIT
        connection.close()


async def test_a_websocket():
    server = VncServer()
    async with websocket_server(lambda socket: Wire(socket).carry(server.serve)) as where:
        connection = await connect_vnc(vnc.VncTarget(websocket=where, password=PASSWORD, view_only=True))
        assert await connection.read() == SERVER_INIT
        connection.write(KEY + UPDATE_REQUEST)
        await until(lambda: server.received)
        assert server.received == UPDATE_REQUEST
        connection.close()
        assert await connection.read() == b""


@pytest.mark.parametrize(
    "server, ending",
    [(VncServer(password="another"), Ending.LOGIN), (VncServer(hangs_up=True), Ending.REFUSED), (VncServer(hangs=True), Ending.TIMEOUT)],
)
async def test_it_fails_through_a_websocket_as_without(server, ending, monkeypatch):
    monkeypatch.setattr(vnc, "OPEN_SECONDS", 0.5)
    async with websocket_server(lambda socket: Wire(socket).carry(server.serve)) as where:
        with pytest.raises(RelayError) as caught:
            await connect_vnc(vnc.VncTarget(websocket=where, password=PASSWORD))
        assert caught.value.code is ending


@pytest.mark.parametrize(
    "server, ending",
    [
        (VncServer(password="another"), Ending.LOGIN),
        (VncServer(password="another", version=b"RFB 003.007\n"), Ending.LOGIN),
        (VncServer(password="another", version=b"RFB 003.003\n"), Ending.LOGIN),
        (VncServer(refuses="too many connections"), Ending.REFUSED),
        (VncServer(refuses="too many connections", version=b"RFB 003.003\n"), Ending.REFUSED),
        (VncServer(version=b"SSH-2.0-open"), Ending.PROTOCOL),
        (VncServer(security=(19,)), Ending.PROTOCOL),
        (VncServer(security=(19,), version=b"RFB 003.003\n"), Ending.PROTOCOL),
        (VncServer(hangs_up=True), Ending.REFUSED),
        (VncServer(hangs=True), Ending.TIMEOUT),
    ],
)
async def test_every_way_to_fail_has_its_ending(server, ending, monkeypatch):
    monkeypatch.setattr(vnc, "OPEN_SECONDS", 0.2)
    async with running(server) as target:
        with pytest.raises(RelayError) as caught:
            await connect_vnc(target)
        assert caught.value.code is ending
        assert PASSWORD not in repr(target) + str(caught.value)


async def test_nothing_listens(tmp_path, unused_tcp_port):
    for target in (vnc.VncTarget(host="127.0.0.1", port=unused_tcp_port), vnc.VncTarget(path=str(tmp_path / "none"))):
        with pytest.raises(RelayError) as caught:
            await connect_vnc(target)
        assert caught.value.code is Ending.REFUSED


async def test_view_only_drops_input():
    server = VncServer()
    async with running(server) as target:
        connection = await connect_vnc(replace(target, view_only=True))
        connection.write(KEY + UPDATE_REQUEST + KEY)
        await until(lambda: server.received)
        assert server.received == UPDATE_REQUEST
        with pytest.raises(RelayError):
            connection.write(b"\x63")
        connection.close()


async def test_a_machine_that_says_much_is_held_back():
    server = VncServer()
    async with running(server) as target:
        connection = await connect_vnc(target)
        assert await connection.read() == SERVER_INIT
        total = 64 * 1024 * 1024
        server.writer.write(bytes(total))
        await until(lambda: connection._inlet._paused)
        assert connection._inlet._size <= 2 * HIGH_WATER
        assert not connection._transport.is_reading()
        got = 0
        while got < total:
            got += len(await connection.read())
        assert got == total
        connection.close()


async def test_a_machine_that_takes_nothing_makes_writers_wait_and_ends_at_last(monkeypatch):
    monkeypatch.setattr("console.relay.flow.STALL_SECONDS", 0.2)
    server = VncServer()
    server.reads = False
    async with running(server) as target:
        connection = await connect_vnc(target)
        written = 0
        with pytest.raises(RelayError) as caught:
            async with asyncio.timeout(5):
                while True:
                    connection.write(bytes(65536))
                    written += 65536
                    await connection.drain()
        assert caught.value.code is Ending.TOO_SLOW
        assert connection._transport.get_write_buffer_size() <= HIGH_WATER + 65536
        connection.close()
