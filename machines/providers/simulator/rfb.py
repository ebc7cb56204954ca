"""The screens of simulated machines over RFB 3.8 (VNC), on loopback, one door per opened console."""

import asyncio
import hmac
import re
import secrets
import string
import struct
from contextlib import suppress

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from .font import CELL_HEIGHT, CELL_WIDTH
from .machine import VirtualMachine
from .screen import HEIGHT, PALETTE, ROWS, WIDTH, Console, Line, pixels, png
from .world import World

DOOR_SECONDS = 30.0  # how long a password opens
DOOR_ATTEMPTS = 3
RAW, RRE = 0, 2
_LIMIT = 64 * 1024
_INK = re.compile(b"\x01+")
_KEYSYMS = {0xFF0D: "\n", 0xFF8D: "\n", 0xFF08: "\b"}
_CONTROL, _ALT, _DELETE = (0xFFE3, 0xFFE4), (0xFFE9, 0xFFEA), (0xFFFF, 0xFF9F)


class PixelFormat:
    """How the viewer wants its pixels, RFC 6143 §7.4."""

    def __init__(self, data: bytes = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)) -> None:
        bits, _depth, big_endian, true_colour, *rest = struct.unpack(">BBBBHHHBBB3x", data)
        if bits not in (8, 16, 32) or not true_colour:
            raise ValueError("only true colour in 8, 16 or 32 bits")
        self.data, self.size = data, bits // 8
        maxima, shifts = rest[:3], rest[3:]
        values = (sum(part * maximum // 255 << shift for part, maximum, shift in zip(colour, maxima, shifts, strict=True)) for colour in PALETTE)
        limit = (1 << bits) - 1
        self.colours: list[bytes] = [(value & limit).to_bytes(self.size, "big" if big_endian else "little") for value in values]
        self._tables = [bytes(colour[place] for colour in self.colours).ljust(256, b"\0") for place in range(self.size)]

    def encode(self, row: bytes) -> bytes:
        encoded = bytearray(len(row) * self.size)
        for place, table in enumerate(self._tables):
            encoded[place :: self.size] = row.translate(table)
        return bytes(encoded)


class Screens:
    """All consoles of a world. `open` makes a door: a port and a password that work once and soon end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._consoles: dict[str, Console] = {}
        self._viewers: dict[str, set[asyncio.StreamWriter]] = {}
        self._doors: set[asyncio.Server] = set()
        world.power_listeners.append(self._power_changed)

    def console(self, machine: VirtualMachine) -> Console:
        if machine.ref not in self._consoles:
            self._consoles[machine.ref] = Console(self.world, machine)
        return self._consoles[machine.ref]

    def screenshot(self, machine: VirtualMachine) -> bytes:
        return png(self.console(machine).screen.lines())

    async def open(self, machine: VirtualMachine) -> tuple[int, str]:
        """Port and password."""
        password = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
        door: asyncio.Server
        wrong = 0

        async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal wrong
            with suppress(OSError, EOFError, ValueError):
                try:
                    async with asyncio.timeout(10):
                        let_in = door.is_serving() and await _authenticate(reader, writer, password)
                    if let_in:
                        self._close_door(door)
                        await self._view(machine, reader, writer)
                    else:
                        wrong += 1
                        if wrong == DOOR_ATTEMPTS:
                            self._close_door(door)
                finally:
                    writer.close()

        door = await asyncio.start_server(enter, "127.0.0.1", 0, limit=_LIMIT)
        self._doors.add(door)
        asyncio.get_running_loop().call_later(DOOR_SECONDS, self._close_door, door)
        return door.sockets[0].getsockname()[1], password

    def close(self) -> None:
        for door in tuple(self._doors):
            self._close_door(door)
        for ref in tuple(self._consoles):
            self._end(ref)

    def _close_door(self, door: asyncio.Server) -> None:
        self._doors.discard(door)
        door.close()

    def _power_changed(self, machine: VirtualMachine) -> None:
        if not machine.on:
            self._end(machine.ref)
        elif console := self._consoles.get(machine.ref):
            console.power_changed()

    def _end(self, ref: str) -> None:
        if console := self._consoles.pop(ref, None):
            console.close()
        for writer in self._viewers.pop(ref, set()):
            writer.close()

    async def _view(self, machine: VirtualMachine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not machine.on:
            return
        viewers = self._viewers.setdefault(machine.ref, set())
        viewers.add(writer)
        try:
            await Viewer(self.console(machine), reader, writer).serve()
        finally:
            viewers.discard(writer)


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str) -> bool:
    writer.write(b"RFB 003.008\n")
    version = await reader.readexactly(12)
    if version not in (b"RFB 003.007\n", b"RFB 003.008\n"):
        return False
    writer.write(b"\x01\x02")  # one kind of security: VNC authentication
    if await reader.readexactly(1) != b"\x02":
        return False
    challenge = secrets.token_bytes(16)
    writer.write(challenge)
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode().ljust(8, b"\0"))
    des = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 - VNC knows nothing better
    right = hmac.compare_digest(await reader.readexactly(16), des.update(challenge) + des.finalize())
    refusal = b"" if version == b"RFB 003.007\n" else struct.pack(">I", 12) + b"wrong secret"
    writer.write(struct.pack(">I", 0) if right else struct.pack(">I", 1) + refusal)
    await writer.drain()
    return right


class Viewer:
    """One connection that is let in."""

    def __init__(self, console: Console, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.console, self.reader, self.writer = console, reader, writer
        self.format = PixelFormat()
        self.rre = False
        self.held: set[int] = set()
        self._shown: list[Line] = [b""] * ROWS  # what the viewer has; empty lines are sent whole
        self._wanted = False  # an update was asked for and not sent yet
        self._wake = asyncio.Event()

    async def serve(self) -> None:
        self.writer.transport.set_write_buffer_limits(_LIMIT)
        await self.reader.readexactly(1)  # ClientInit: whether to share, which we always do
        name = self.console.machine.name.encode()
        self.writer.write(struct.pack(">HH", WIDTH, HEIGHT) + self.format.data + struct.pack(">I", len(name)) + name)
        self.console.watchers.add(self._wake.set)
        updates = asyncio.create_task(self._update())
        try:
            while True:
                await self._message()
        finally:
            self.console.watchers.discard(self._wake.set)
            updates.cancel()

    async def _message(self) -> None:
        match (await self.reader.readexactly(1))[0]:
            case 0:  # SetPixelFormat
                self.format = PixelFormat((await self.reader.readexactly(19))[3:])
                self._shown = [b""] * ROWS
            case 2:  # SetEncodings
                (count,) = struct.unpack(">xH", await self.reader.readexactly(3))
                self.rre = RRE in struct.unpack(f">{count}i", await self.reader.readexactly(4 * count))
            case 3:  # FramebufferUpdateRequest
                (incremental,) = struct.unpack(">B8x", await self.reader.readexactly(9))
                if not incremental:
                    self._shown = [b""] * ROWS
                self._wanted = True
                self._wake.set()
            case 4:  # KeyEvent
                down, keysym = struct.unpack(">BxxI", await self.reader.readexactly(7))
                self._key(bool(down), keysym)
            case 5:  # PointerEvent: a text console has no use for it
                await self.reader.readexactly(5)
            case 6:  # ClientCutText
                (length,) = struct.unpack(">3xI", await self.reader.readexactly(7))
                if length > _LIMIT:
                    raise ValueError("cut text too long")
                await self.reader.readexactly(length)
            case other:
                raise ValueError(f"unknown message {other}")

    def _key(self, down: bool, keysym: int) -> None:
        if not down:
            self.held.discard(keysym)
            return
        self.held.add(keysym)
        control = self.held.intersection(_CONTROL)
        if control and self.held.intersection(_ALT) and keysym in _DELETE:
            self.console.world.boot_again(self.console.machine)
        elif control and keysym in (ord("c"), ord("C")):
            self.console.key("\x03")
        elif keysym in _KEYSYMS:
            self.console.key(_KEYSYMS[keysym])
        elif 0x20 <= keysym < 0x7F and not control:
            self.console.key(chr(keysym))

    async def _update(self) -> None:
        """Send what changed whenever the viewer asked for it, never more than it asked for."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._wanted:
                continue
            lines = self.console.screen.lines()
            rectangles = [_changed(row, old, new) for row, (old, new) in enumerate(zip(self._shown, lines, strict=True)) if old != new]
            if rectangles:
                self._wanted, self._shown = False, lines
                self.writer.write(struct.pack(">BxH", 0, len(rectangles)) + b"".join(self._rectangle(*each) for each in rectangles))
                await self.writer.drain()

    def _rectangle(self, row: int, column: int, text: Line) -> bytes:
        rows = pixels(text)
        place = struct.pack(">HHHH", column * CELL_WIDTH, row * CELL_HEIGHT, len(text) * CELL_WIDTH, CELL_HEIGHT)
        if self.rre:
            # Each dot of a letter is two pixels high: every other row tells all.
            runs = [(run.start(), y, run.end() - run.start()) for y in range(0, CELL_HEIGHT, 2) for run in _INK.finditer(rows[y])]
            paper, ink = self.format.colours
            subrectangles = b"".join(ink + struct.pack(">HHHH", x, y, width, 2) for x, y, width in runs)
            return place + struct.pack(">iI", RRE, len(runs)) + paper + subrectangles
        return place + struct.pack(">i", RAW) + b"".join(self.format.encode(each) for each in rows)


def _changed(row: int, old: Line, new: Line) -> tuple[int, int, Line]:
    """The part of a line that is new: row, column, characters."""
    if len(old) != len(new):
        return row, 0, new
    differing = [column for column in range(len(new)) if old[column] != new[column]]
    first, last = differing[0], differing[-1]
    return row, first, new[first : last + 1]
