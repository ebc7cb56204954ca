"""Simulated machines can be logged in to: over SSH and on their screen."""

import asyncio
import struct
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncssh
import pytest

from machines.providers.simulator import SimulatorProvider
from machines.providers.simulator.rfb import PixelFormat
from machines.providers.simulator.screen import HEIGHT, PALETTE, WIDTH
from machines.providers.types import ConsoleKind, MachineIdentity, Power, StopMode
from tests.machines.providers.lab import rfb_authenticate, rfb_connect, rfb_security_result, until

from .machines import PASSWORD, running, settle, spec
from .running import Simulated

RETURN, CONTROL, ALT, DELETE = 0xFF0D, 0xFFE3, 0xFFE9, 0xFFFF


@pytest.fixture
def provider(simulated: Simulated) -> SimulatorProvider:
    return simulated.provider()


@pytest.fixture
def made(provider: SimulatorProvider) -> MachineIdentity:
    return running(provider)


# -- SSH ---------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(provider: SimulatorProvider, made: MachineIdentity) -> AsyncIterator[asyncssh.SSHClientConnection]:
    (endpoint,) = next(machine for machine in provider.inventory().machines if machine.ref == made.key).endpoints
    async with asyncssh.connect(
        endpoint.host, endpoint.port, username="student", password=PASSWORD, known_hosts=None, config=None, client_keys=None
    ) as connection:
        yield connection


async def read_until(process: asyncssh.SSHClientProcess[str], end: str) -> str:
    text = ""
    async with asyncio.timeout(10):
        while not text.endswith(end):
            piece = await process.stdout.read(65536)
            assert piece, f"the shell ended after {text[-200:]!r}"
            text += piece
    return text


async def test_a_terminal_echoes_resizes_and_ends(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection, connection.create_process(term_type="xterm", term_size=(100, 30)) as process:
        prompt = "student@web-07:~$ "
        assert "simulated" in await read_until(process, prompt)
        process.stdin.write("stty size\n")
        assert await read_until(process, prompt) == f"stty size\r\n30 100\r\n{prompt}"
        process.change_terminal_size(132, 43)
        process.stdin.write("stty size\n")
        assert "\r\n43 132\r\n" in await read_until(process, prompt)
        process.stdin.write("echo 'a; b' > note; cat note; pwd; nonsense\n")
        answer = await read_until(process, prompt)
        assert "\r\na; b\r\n/home/student\r\nsh: nonsense: not found" in answer
        process.stdin.write("exit\n")
        assert (await process.wait()).exit_status == 0


async def test_a_flood_goes_on_until_it_is_interrupted(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection, connection.create_process(term_type="xterm") as process:
        prompt = "student@web-07:~$ "
        await read_until(process, prompt)
        process.stdin.write("flood\n")
        received = 0
        async with asyncio.timeout(10):
            while received < 2_000_000:
                received += len(await process.stdout.read(65536))
        process.stdin.write("\x03")
        assert (await read_until(process, prompt)).endswith(f"^C\r\n{prompt}")
        process.stdin.write("whoami\n")
        assert "\r\nstudent\r\n" in await read_until(process, prompt)


async def test_the_host_key_stays_until_the_machine_is_made_anew(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async def host_key() -> bytes:
        async with connected(provider, made) as connection:
            return connection.get_server_host_key().public_data

    def off_and_on(revert: bool) -> None:
        settle(provider, provider.begin_stop(made, made.key, StopMode.FORCE))
        if revert:
            settle(provider, provider.begin_revert(made, made.key, spec()))
        settle(provider, provider.begin_start(made, made.key))

    first = await host_key()
    off_and_on(revert=False)
    assert await host_key() == first
    off_and_on(revert=True)
    assert await host_key() != first


async def test_connections_end_when_the_machine_is_switched_off(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection:
        settle(provider, provider.begin_stop(made, made.key, StopMode.FORCE))
        async with asyncio.timeout(5):
            await connection.wait_closed()
    assert provider.inventory().machines[0].endpoints == ()


async def test_a_guest_can_switch_itself_off(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection:
        await connection.run("poweroff")
    assert provider.find(made, made.key).power is Power.OFF


async def test_the_disk_of_a_guest_is_not_endless(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection:
        result = await connection.run("; ".join(f"touch file-{number}" for number in range(70)))
        assert "No space left on device" in result.stdout
        assert "No space left on device" in (await connection.run("flood > large")).stdout


# -- the screen --------------------------------------------------------------------------------


class Viewer:
    """A small RFB client that keeps the picture it was sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.picture = [[(0, 0, 0)] * WIDTH for _ in range(HEIGHT)]
        self.encodings: list[int] = []

    async def update(self, *, incremental: bool = True) -> None:
        self.writer.write(struct.pack(">BBHHHH", 3, incremental, 0, 0, WIDTH, HEIGHT))
        async with asyncio.timeout(5):
            kind, rectangles = struct.unpack(">BxH", await self.reader.readexactly(4))
            assert kind == 0
            for _ in range(rectangles):
                await self._rectangle()

    async def _rectangle(self) -> None:
        left, top, width, height, encoding = struct.unpack(">HHHHi", await self.reader.readexactly(12))
        self.encodings.append(encoding)
        if encoding == 0:
            data = await self.reader.readexactly(width * height * 4)
            for y in range(height):
                for x in range(width):
                    self.picture[top + y][left + x] = self._colour(data[(y * width + x) * 4 :][:4])
            return
        assert encoding == 2
        (count,) = struct.unpack(">I", await self.reader.readexactly(4))
        self._fill(left, top, width, height, await self.reader.readexactly(4))
        for _ in range(count):
            pixel = await self.reader.readexactly(4)
            x, y, w, h = struct.unpack(">HHHH", await self.reader.readexactly(8))
            self._fill(left + x, top + y, w, h, pixel)

    def _fill(self, left: int, top: int, width: int, height: int, pixel: bytes) -> None:
        for y in range(top, top + height):
            self.picture[y][left : left + width] = [self._colour(pixel)] * width

    @staticmethod
    def _colour(pixel: bytes) -> tuple[int, int, int]:
        return pixel[2], pixel[1], pixel[0]

    def press(self, *keysyms: int) -> None:
        for down, keys in ((1, keysyms), (0, reversed(keysyms))):
            for keysym in keys:
                self.writer.write(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, text: str) -> None:
        for character in text:
            self.press(RETURN if character == "\n" else ord(character))


@asynccontextmanager
async def viewing(provider: SimulatorProvider, made: MachineIdentity, *encodings: int) -> AsyncIterator[Viewer]:
    target = provider.open_console(made, made.key, ConsoleKind.SCREEN)
    reader, writer = await rfb_connect(target)
    assert await rfb_authenticate(reader, writer, target.password) == 0
    writer.write(b"\x01")
    width, height = struct.unpack(">HH16x", await reader.readexactly(20))
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    assert (width, height, await reader.readexactly(length)) == (WIDTH, HEIGHT, made.name.encode())
    writer.write(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
    try:
        yield Viewer(reader, writer)
    finally:
        writer.close()


def picture_of(png: bytes) -> list[list[tuple[int, int, int]]]:
    data = png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8]
    rows = zlib.decompress(data)
    return [[PALETTE[index] for index in rows[y * (WIDTH + 1) + 1 :][:WIDTH]] for y in range(HEIGHT)]


@pytest.mark.parametrize("encoding", [0, 2])
async def test_every_encoding_shows_the_same_picture(provider: SimulatorProvider, made: MachineIdentity, encoding: int) -> None:
    async with viewing(provider, made, *([encoding] if encoding else [])) as viewer:
        await viewer.update(incremental=False)
        assert set(viewer.encodings) == {encoding}
        assert viewer.picture == picture_of(provider.screenshot(made, made.key))
        lit = sum(pixel != PALETTE[0] for row in viewer.picture for pixel in row)
        assert lit > 1000, "the login prompt is on the screen"


async def test_keys_appear_and_log_in(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with viewing(provider, made, 2) as viewer:
        await viewer.update(incremental=False)
        viewer.type("student\n")
        await viewer.update()
        assert viewer.picture == picture_of(provider.screenshot(made, made.key))
        viewer.type(f"{PASSWORD}\necho typed > seen.txt\n")

        async def written() -> str:
            async with connected(provider, made) as connection:
                return str((await connection.run("cat seen.txt")).stdout)

        async with asyncio.timeout(5):
            while await written() != "typed\n":
                await viewer.update()


async def test_only_what_changed_is_sent(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with viewing(provider, made, 2) as viewer:
        await viewer.update(incremental=False)
        viewer.encodings.clear()
        viewer.type("x")
        await viewer.update()
        assert len(viewer.encodings) == 1


async def test_the_three_keys_restart_the_machine(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with connected(provider, made) as connection:
        before = (await connection.run("cat /proc/sys/kernel/random/boot_id")).stdout
    async with viewing(provider, made, 2) as viewer:
        viewer.press(CONTROL, ALT, DELETE)
        await viewer.update(incremental=False)
    async with connected(provider, made) as connection:
        assert (await connection.run("cat /proc/sys/kernel/random/boot_id")).stdout != before


async def test_a_password_opens_once(provider: SimulatorProvider, made: MachineIdentity) -> None:
    target = provider.open_console(made, made.key, ConsoleKind.SCREEN)
    assert await rfb_security_result(target, target.password) == 0
    with pytest.raises((OSError, EOFError)):
        await rfb_security_result(target, target.password)


async def test_a_password_ends(simulated: Simulated, provider: SimulatorProvider, made: MachineIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machines.providers.simulator.rfb.DOOR_SECONDS", 0.05)
    target = provider.open_console(made, made.key, ConsoleKind.SCREEN)

    def closed() -> bool:
        try:
            asyncio.run(rfb_security_result(target, "wrong"))
        except (OSError, EOFError):
            return True
        return False

    await asyncio.to_thread(until, closed, 5, "the door is closed")


async def test_guessing_ends_after_three(provider: SimulatorProvider, made: MachineIdentity) -> None:
    target = provider.open_console(made, made.key, ConsoleKind.SCREEN)
    for guess in ("guess-1", "guess-2", "guess-3"):
        assert await rfb_security_result(target, guess) == 1
    with pytest.raises((OSError, EOFError)):
        await rfb_security_result(target, target.password)


async def test_screens_end_when_the_machine_is_switched_off(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with viewing(provider, made, 2) as viewer:
        await viewer.update(incremental=False)
        settle(provider, provider.begin_stop(made, made.key, StopMode.FORCE))
        async with asyncio.timeout(5):
            assert await viewer.reader.read() == b""


async def test_a_hostile_viewer_is_put_out_and_harms_nobody(provider: SimulatorProvider, made: MachineIdentity) -> None:
    async with viewing(provider, made, 2) as viewer:
        viewer.writer.write(struct.pack(">B3xI", 6, 2**31))
        async with asyncio.timeout(5):
            assert await viewer.reader.read() == b""
    async with viewing(provider, made, 2) as viewer:
        viewer.writer.write(b"\xee")
        async with asyncio.timeout(5):
            assert await viewer.reader.read() == b""
    assert provider.screenshot(made, made.key)


def test_pixels_in_the_form_the_viewer_wants() -> None:
    sixteen = PixelFormat(struct.pack(">BBBBHHHBBB3x", 16, 16, 1, 1, 31, 63, 31, 11, 5, 0))
    grey = (190 * 31 // 255 << 11) | (190 * 63 // 255 << 5) | (190 * 31 // 255)
    assert sixteen.encode(b"\x00\x01") == struct.pack(">HH", 0, grey)
    with pytest.raises(ValueError, match="true colour"):
        PixelFormat(struct.pack(">BBBBHHHBBB3x", 8, 8, 0, 0, 0, 0, 0, 0, 0, 0))


async def test_a_machine_without_a_seed_lets_nobody_in(provider: SimulatorProvider, made: MachineIdentity) -> None:
    other = replace(made, key=f"{made.key}-2", name="bare")
    settle(provider, provider.begin_create(other, other.key, spec(seed=None)))
    settle(provider, provider.begin_start(other, other.key))
    began = time.monotonic()
    with pytest.raises(asyncssh.PermissionDenied):
        async with connected(provider, other):
            pass
    assert time.monotonic() - began < 10
