"""The web server as browsers meet it: every kind of message, back-pressure both ways, and the end."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest
import websockets
from websockets.asyncio.client import connect

from labportal.server import EVENT_COST, GRACE_SECONDS, HIGH_WATER, frame_header

from .served import PIECE, POUR

DEADLINE = 10


class Process:
    """The application of `served` in a process of its own."""

    def __init__(self, **environment):
        command = [sys.executable, "-m", "tests.labportal.served"]
        self.process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.stderr.read()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def socket(self, path):
        return connect(f"ws://127.0.0.1:{self.port}{path}", max_size=None, compression="deflate")

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}{path}", timeout=DEADLINE) as response:
            return response.read()

    def held(self):
        return json.loads(self.get("held"))

    def until(self, condition):
        """Wait until what the server holds satisfies the condition."""
        deadline = time.monotonic() + DEADLINE
        while not condition(held := self.held()):
            assert time.monotonic() < deadline, held
            time.sleep(0.01)
        return held

    def settled(self):
        """What the server holds once no byte moves any more."""
        held, since = {}, time.monotonic()
        while time.monotonic() - since < 0.3:
            time.sleep(0.01)
            now = self.held()
            if any(now[bytes_of] != held.get(bytes_of) for bytes_of in ("out", "in", "poured")):
                held, since = now, time.monotonic()
        return held

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def served():
    process = Process()
    yield process
    process.end()


@pytest.fixture
def own_process():
    process = Process()
    yield process
    process.end()


def handshake_request(path):
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def handshake(port, path, receive_buffer=65536):
    """A bare socket after the 101, with what came behind it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(DEADLINE)
    raw.connect(("127.0.0.1", port))
    raw.sendall(handshake_request(path))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(4096)
    head, _, rest = answer.partition(b"\r\n\r\n")
    return raw, head, rest


def frame(payload, first=0x82, mask=b"\x11\x22\x33\x44"):
    header = frame_header(len(payload))
    header = bytes([first, header[1] | 0x80]) + header[2:]
    return header + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def received(raw, size, rest=b""):
    while len(rest) < size:
        piece = raw.recv(size - len(rest))
        assert piece, f"closed after {rest!r}"
        rest += piece
    return rest


# -- messages ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/echo", "/stream"])
@pytest.mark.parametrize("size", [1, 2, 125, 126, 127, 1000, 65535, 65536, 65537, 200_000, 900_000])
async def test_messages_of_every_size_come_back(served, path, size):
    message = os.urandom(size)
    async with served.socket(path) as ws:
        await ws.send(message)
        back = b""
        while len(back) < size:
            back += await ws.recv()
        assert back == message


async def test_text_fragments_pings_and_binary_in_one_go(served):
    async with served.socket("/echo") as ws:
        await ws.send("hé")
        await ws.send(b"binary")
        await ws.send([b"a", b"b" * 70_000, b"c"])
        pong = await ws.ping()
        await ws.send(["te", "xt"])
        await ws.send(b"again")
        assert [await ws.recv() for _ in range(5)] == ["hé", b"binary", b"a" + b"b" * 70_000 + b"c", "text", b"again"]
        await pong


async def test_many_small_messages_keep_their_order_and_borders(served):
    messages = [bytes([at % 256]) * (at % 40) or b"x" for at in range(500)]
    async with served.socket("/echo") as ws:
        for message in messages:
            await ws.send(message)
        assert [await ws.recv() for _ in messages] == messages


def test_frames_in_single_bytes_and_many_in_one_segment(served):
    raw, _, _ = handshake(served.port, "/echo")
    with raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(b"slowly") + frame(b"x" * 300):
            raw.send(bytes([byte]))
        expected = frame_header(6) + b"slowly" + frame_header(300) + b"x" * 300
        assert received(raw, len(expected)) == expected
        raw.sendall(frame(b"one") + frame(b"two", first=0x81) + frame(b"", first=0x89) + frame(b"three")[:5])
        expected = b"\x82\x03one\x81\x03two"
        answer = received(raw, len(expected) + 2)
        assert answer.replace(b"\x8a\x00", b"") == expected
        raw.sendall(frame(b"three")[5:])
        assert received(raw, 7) == b"\x82\x05three"


def test_pieces_of_a_stream_arrive_joined_and_messages_do_not(served):
    for path, joined in (("/sizes", False), ("/stream", True)):
        raw, _, _ = handshake(served.port, path)
        with raw:
            raw.sendall(frame(b"abc") * 3)
            assert received(raw, 9) == (b"\x81\x013" * 3 if not joined else b"\x82\x09abcabca"[:9])


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x82\x05hello",  # not masked
        b"\xc2\x80\x00\x00\x00\x00",  # a compressed message, and no such thing was agreed on
        b"\x83\x80\x00\x00\x00\x00",  # an unknown opcode
        frame(b"\xff\xfe", first=0x81),  # text that is none
        struct.pack("!BBQ4x", 0x82, 0xFF, 1 << 40),  # a terabyte
        struct.pack("!BBQ4x", 0x82, 0xFF, 2 << 20),  # more than a message may be
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(served, wrong):
    raw, _, _ = handshake(served.port, "/echo")
    with raw:
        raw.sendall(wrong)
        with suppress(ConnectionResetError):
            assert raw.recv(1000) == b""


def test_a_client_that_does_not_wait_for_the_answer_is_cut_off(served):
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as raw:
        raw.sendall(handshake_request("/hesitates"))
        served.until(lambda held: held["sockets"])
        with suppress(ConnectionError):
            raw.sendall(frame(b"too early"))
            assert raw.recv(1000) == b""


def test_compression_is_never_agreed_on(served):
    raw, head, _ = handshake(served.port, "/echo")
    raw.close()
    assert head.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in head.lower()


# -- closing -------------------------------------------------------------------------------


async def test_a_close_carries_code_and_reason_and_is_the_last_word(served):
    async with served.socket("/closes") as ws:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await ws.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "revoked")


async def test_a_refused_handshake_and_one_that_fails(served):
    for path, status in (("/refused", 403), ("/broken", 500)):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await asyncio.wait_for(served.socket(path).__aenter__(), DEADLINE)
        assert caught.value.response.status_code == status


async def test_closed_sockets_are_forgotten(served):
    served.until(lambda held: held["sockets"] == 0)
    async with served.socket("/echo"), served.socket("/echo"):
        assert served.held()["sockets"] == 2
    await asyncio.to_thread(served.until, lambda held: held["sockets"] == 0)


# -- back-pressure -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/pour", "/stream/pour"])
def test_a_browser_that_takes_nothing_makes_the_application_wait(own_process, path):
    raw, _, rest = handshake(own_process.port, path)
    with raw:
        held = own_process.settled()
        assert 0 < held["out"] <= HIGH_WATER + PIECE
        assert held["poured"] < POUR / 2
        size = len(frame_header(PIECE)) + PIECE
        for at in range(POUR // PIECE):
            whole = received(raw, size, rest)
            assert whole == frame_header(PIECE) + bytes([at % 256]) * PIECE
            rest = b""
        assert received(raw, 8) == b"\x88\x06\x0f\xa0done"
    own_process.until(lambda held: held["out"] == 0)


def test_so_does_one_that_takes_nothing_of_a_file(own_process):
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", own_process.port))
        raw.sendall(b"GET /pour HTTP/1.0\r\n\r\n")
        assert 0 < own_process.settled()["poured"] < POUR / 2
        answer = raw.makefile("rb")
        while answer.readline().strip():
            pass
        assert len(answer.read()) == POUR


def test_a_file_that_nobody_waits_for_any_more_frees_the_application(own_process):
    before = own_process.held()["requests"]
    with socket.create_connection(("127.0.0.1", own_process.port)) as raw:
        raw.sendall(b"GET /pour HTTP/1.0\r\n\r\n")
        assert own_process.settled()["poured"] < POUR
    own_process.until(lambda held: held["requests"] == before)


async def test_an_application_that_takes_nothing_makes_the_browser_wait(own_process):
    async with own_process.socket("/stalled") as ws:
        size = 32 * 1024 * 1024
        message = os.urandom(16384)

        async def upload():
            for _ in range(size // len(message)):
                await ws.send(message)
            await ws.send("end")

        uploading = asyncio.create_task(upload())
        held = await asyncio.to_thread(own_process.until, lambda held: held["paused"])
        assert held["in"] <= 2 * HIGH_WATER
        assert (await asyncio.to_thread(own_process.settled))["in"] <= 2 * HIGH_WATER
        assert not uploading.done()
        await asyncio.to_thread(own_process.get, "go-on")
        await uploading
        assert await ws.recv() == str(size)


def test_empty_messages_are_bounded_too(own_process):
    raw, _, _ = handshake(own_process.port, "/stalled")
    with raw:
        raw.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                raw.sendall(frame(b"") * 10_000)
        assert own_process.held()["in"] <= HIGH_WATER + 65536 // len(frame(b"")) * EVENT_COST


def test_pings_without_end_from_a_browser_that_takes_no_answers(own_process):
    raw, _, _ = handshake(own_process.port, "/echo", receive_buffer=4096)
    with raw:
        raw.settimeout(0.5)
        for _ in range(50):
            try:
                raw.sendall(frame(b"p" * 125, first=0x89) * 1000)
            except TimeoutError:
                break
        assert own_process.settled()["out"] <= 2 * HIGH_WATER


def test_a_browser_that_vanishes_frees_the_application(own_process):
    raw, _, _ = handshake(own_process.port, "/pour")
    own_process.until(lambda held: held["out"])
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    own_process.until(lambda held: held["sockets"] == 0)


# -- the end -------------------------------------------------------------------------------


async def test_told_to_end_it_tells_browsers_and_ends_though_a_request_is_at_work(own_process):
    stuck, _, _ = handshake(own_process.port, "/pour")
    with stuck, socket.create_connection(("127.0.0.1", own_process.port)) as request:
        request.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        await asyncio.to_thread(own_process.until, lambda held: held["requests"] == 2)  # the slow one and the one that asks
        async with own_process.socket("/echo") as ws:
            own_process.process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await ws.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "restart")
        told = time.monotonic()
        assert await asyncio.to_thread(own_process.process.stdout.readline) == "ended\n"
        assert time.monotonic() - told < GRACE_SECONDS + 2


@pytest.mark.processes
async def test_the_command_serves_says_where_and_ends(tmp_path):
    def start(*options):
        command = [sys.executable, "manage.py", "web", *options]
        return subprocess.Popen(command, env=os.environ | {"DATA_DIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    web = start("--port", "0")
    try:
        port = int(web.stdout.readline().removeprefix("Listening on http://127.0.0.1:").rstrip("/\n"))
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{port}/nowhere/?ticket=secret", origin=f"http://127.0.0.1:{port}").__aenter__()
        assert caught.value.response.status_code == 403
        second = start("--port", str(port))
        assert "Cannot listen" in second.communicate(timeout=DEADLINE)[1]
        assert second.returncode == 1
        web.send_signal(signal.SIGTERM)
        _, log = web.communicate(timeout=DEADLINE)
        assert web.returncode == 0
        assert "WebSocket /nowhere/ rejected" in log
        assert "secret" not in log and "Traceback" not in log
    finally:
        web.kill()
        web.communicate()


@pytest.mark.parametrize(("environment", "client"), [({}, "127.0.0.1"), ({"BEHIND_PROXY": "1"}, "192.0.2.7")])
async def test_only_the_proxy_in_front_says_who_the_client_is(environment, client):
    process = Process(**environment)
    try:
        async with connect(f"ws://127.0.0.1:{process.port}/whoami", additional_headers={"X-Forwarded-For": "192.0.2.7"}) as ws:
            assert await ws.recv() == client
    finally:
        process.end()
