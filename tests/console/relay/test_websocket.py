"""Bytes in a WebSocket to a hypervisor: whom it trusts, what it holds back, and how it ends."""

import asyncio
import contextlib

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from console.relay import websocket
from console.relay.endings import Ending, RelayError
from console.relay.flow import HIGH_WATER, Flow, opening
from console.relay.websocket import OUTWARDS, connect_websocket

from .browser import DEADLINE, until
from .websocket_server import address, certificate, tls_server, websocket_server

SECRET = {"Authorization": "PVEAPIToken=labportal@pve!portal=0123-4567"}


class Bytes(Flow, asyncio.Protocol):
    def connection_made(self, transport):
        self._source = self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)


async def connect(where, seconds=DEADLINE):
    async with opening("hypervisor", seconds):
        return await connect_websocket(Bytes, where)


async def refused(where, seconds=DEADLINE):
    with pytest.raises(RelayError) as caught:
        await connect(where, seconds)
    return caught.value


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def ended(connection):
    async with asyncio.timeout(DEADLINE):
        while await connection.read():
            pass


async def test_bytes_go_both_ways_and_messages_mean_nothing():
    async def talk(socket):
        await socket.send([b"in ", b"pieces, "])
        await socket.send("as text")
        sizes = [len(await socket.recv()) for _ in range(3)]
        await socket.send(f"; got {sizes}")
        await socket.wait_closed()

    async with websocket_server(talk) as where:
        connection = await connect(where)
        connection.transport.write(bytes(2 * OUTWARDS + 7))
        seen = b""
        while not seen.endswith(b"]"):
            seen += await connection.read()
        assert seen == b"in pieces, as text; got [65536, 65536, 7]"
        connection.transport.abort()


async def test_the_request_carries_the_sign_in_and_the_ticket_as_it_is_and_asks_for_nothing_else():
    ticket = "%3BD%5DMH%5C%25M%3APVEVNC%3A67A%3A%3A%2B%2F%3D%3D"
    asked = []
    async with websocket_server(echo, process_request=lambda _, request: asked.append(request)) as where:
        port = where.url.split(":")[2].split("/")[0]
        (await connect(address(port, url=f"wss://127.0.0.1:{port}/api2/json/x?port=5900&vncticket={ticket}", headers=SECRET))).transport.abort()
    (request,) = asked
    assert request.path == f"/api2/json/x?port=5900&vncticket={ticket}"
    assert request.headers["Authorization"] == SECRET["Authorization"]
    assert "Sec-WebSocket-Extensions" not in request.headers  # no compression


@pytest.mark.parametrize("written", [str, lambda text: text.replace(":", "").lower()])
async def test_a_pinned_certificate_needs_no_authority(written):
    async with websocket_server(echo) as where:
        where = address(where.url.split(":")[2].split("/")[0], ca="", fingerprint=written(certificate().fingerprint))
        (await connect(where)).transport.abort()


@pytest.mark.parametrize(
    "trust",
    [{"ca": ""}, {"ca": certificate("another").pem}, {"ca": "no certificate"}, {"fingerprint": certificate("another").fingerprint}, {"fingerprint": "00"}],
    ids=["system", "authority", "nonsense", "fingerprint", "cut off"],
)
async def test_who_is_not_trusted_learns_no_secret(trust):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read())

    async with tls_server(listen) as where:
        port = where.url.split(":")[2].split("/")[0]
        error = await refused(address(port, headers=SECRET, **trust))
        assert error.code is Ending.CERTIFICATE
    assert not any(heard)


async def test_a_certificate_for_another_host_is_not_trusted():
    async with websocket_server(echo) as where:
        port = where.url.split(":")[2].split("/")[0]
        assert (await refused(address(port, url=f"wss://localhost:{port}/"))).code is Ending.CERTIFICATE


async def test_without_tls_nothing_is_said(unused_tcp_port):
    assert (await refused(address(0, url=f"ws://127.0.0.1:{unused_tcp_port}/"))).code is Ending.CERTIFICATE


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (b"HTTP/1.1 401 permission denied - invalid PVEVNC ticket\r\nContent-Length: 0\r\n\r\n", Ending.REFUSED),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ending.REFUSED),
        (b"HTTP/1.1 596 Connection timed out\r\nContent-Length: 0\r\n\r\n", Ending.REFUSED),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n", Ending.PROTOCOL),
        (b"SSH-2.0-OpenSSH\r\n", Ending.PROTOCOL),
        (b"x" * 100_000, Ending.PROTOCOL),
        (b"", Ending.REFUSED),
    ],
)
async def test_an_answer_that_is_none_has_its_ending(answer, ending):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with tls_server(talk) as where:
        error = await refused(where)
        assert error.code is ending
        assert "vncticket" not in str(error)


async def test_a_handshake_that_hangs_is_given_up_and_let_go():
    gone = asyncio.Event()

    async def hang(reader, writer):
        await reader.read()
        gone.set()

    async with tls_server(hang) as where:
        assert (await refused(where, 0.3)).code is Ending.TIMEOUT
        await asyncio.wait_for(gone.wait(), DEADLINE)


async def test_a_cancelled_opening_closes_the_connection():
    asked, gone = asyncio.Event(), asyncio.Event()

    async def hang(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        try:
            await reader.read()
        finally:
            gone.set()

    async with tls_server(hang) as where:
        task = asyncio.create_task(connect(where))
        await asyncio.wait_for(asked.wait(), DEADLINE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), DEADLINE)


async def test_a_hypervisor_that_says_much_is_held_back():
    total = 64 * 1024 * 1024
    sent = 0

    async def flood(socket):
        nonlocal sent
        for _ in range(total // 65536):
            await socket.send(bytes(65536))
            sent += 65536
        await socket.wait_closed()

    async with websocket_server(flood) as where:
        connection = await connect(where)
        await until(lambda: connection._inlet._paused)
        assert connection._inlet._size <= 4 * HIGH_WATER
        assert sent < total
        got = 0
        while got < total:
            got += len(await connection.read())
        assert got == total
        connection.transport.abort()


async def test_a_hypervisor_that_takes_nothing_makes_writers_wait(monkeypatch):
    monkeypatch.setattr("console.relay.flow.STALL_SECONDS", 0.2)
    stop = asyncio.Event()

    async with websocket_server(lambda socket: stop.wait(), max_queue=1) as where:
        connection = await connect(where)
        with pytest.raises(RelayError) as caught:
            async with asyncio.timeout(DEADLINE):
                while True:
                    connection.transport.write(bytes(OUTWARDS))
                    await connection.drain()
        assert caught.value.code is Ending.TOO_SLOW
        assert connection.transport.get_write_buffer_size() <= 2 * HIGH_WATER
        connection.transport.abort()
        await ended(connection)
        stop.set()


async def test_its_pings_are_answered_and_a_closing_ends_the_stream():
    async def talk(socket):
        await (await socket.ping())
        await socket.send(b"alive")

    async with websocket_server(talk) as where:
        connection = await connect(where)
        assert await connection.read() == b"alive"
        await ended(connection)
        assert connection.transport.is_closing()
        connection.transport.write(b"too late")
        connection.transport.abort()


async def test_leaving_is_said():
    codes = []

    async def talk(socket):
        await socket.wait_closed()
        codes.append(socket.close_code)

    async with websocket_server(talk) as where:
        connection = await connect(where)
        connection.transport.abort()
        connection.transport.abort()
        await ended(connection)
        await until(lambda: codes)
    assert codes == [1000]


async def accept(reader, writer):
    protocol = ServerProtocol()
    protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
    (request,) = protocol.events_received()
    writer.write(protocol.accept(request).serialize())


class Raw:
    """A server that shakes hands and then sends frames of its own making."""

    def __init__(self, *frames):
        self.frames, self.heard = frames, bytearray()
        self.gone = asyncio.Event()

    async def __call__(self, reader, writer):
        await accept(reader, writer)
        writer.write(b"".join(self.frames))
        try:
            while data := await reader.read(65536):
                self.heard += data
        finally:
            self.gone.set()


def frame(opcode, data, **options):
    return Frame(opcode, data, **options).serialize(mask=False)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xc2\x01x",
        b"\x82\xff" + (1 << 62).to_bytes(8, "big"),
        b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
        Frame(Opcode.BINARY, b"masked").serialize(mask=True),
        b"\x8f\x00",
        b"\x09\x7e\x01\x00" + bytes(256),
    ],
    ids=["compressed", "negative", "huge", "masked", "unknown", "long ping"],
)
async def test_what_is_no_frame_ends_it(hostile):
    server = Raw(frame(Opcode.BINARY, b"well"), hostile)
    async with tls_server(server) as where:
        connection = await connect(where)
        assert await connection.read() == b"well"
        await ended(connection)


async def test_a_silent_hypervisor_is_asked_and_then_given_up(monkeypatch):
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.05)
    server = Raw()
    async with tls_server(server) as where:
        connection = await connect(where)
        await ended(connection)
        await asyncio.wait_for(server.gone.wait(), DEADLINE)
    assert server.heard[0] == 0x89  # a ping


async def test_one_that_answers_may_be_silent_and_one_that_is_held_back_is_not_given_up(monkeypatch):
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.02)
    asked = []
    send_ping = ClientProtocol.send_ping
    monkeypatch.setattr(ClientProtocol, "send_ping", lambda frames, data: (asked.append(data), send_ping(frames, data)))
    async with websocket_server(echo) as where:
        connection = await connect(where)
        await until(lambda: len(asked) > 5)
        connection.transport.pause_reading()
        await until(lambda: len(asked) > 10)
        assert not connection.transport.is_closing()
        connection.transport.resume_reading()
        connection.transport.write(b"still here")
        assert await connection.read() == b"still here"
        connection.transport.abort()


async def test_who_asks_and_takes_no_answer_is_given_up():
    questions = frame(Opcode.PING, bytes(125)) * 8192

    async def ask(reader, writer):
        await accept(reader, writer)
        writer.transport.pause_reading()
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(questions)
                await writer.drain()
                await asyncio.sleep(0)  # that the connection is lost is told in between; a TLS transport does not say that it is closing

    async with tls_server(ask) as where:
        connection = await connect(where)
        await ended(connection)
