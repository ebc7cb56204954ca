"""What a simulated machine shows on its screen: a text console with a login, and the keys typed there."""

import asyncio
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice

from .font import CELL_HEIGHT, CELL_WIDTH, Font
from .guest import Exit, Shell, banner, password_opens
from .machine import VirtualMachine
from .world import World

COLUMNS, ROWS = 80, 25
WIDTH, HEIGHT = COLUMNS * CELL_WIDTH, ROWS * CELL_HEIGHT
PALETTE = ((0, 0, 0), (190, 190, 190))
FLOOD_INTERVAL, FLOOD_PIECES = 0.05, 1  # a screen is slower than a network

_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FONT = Font()

Line = bytes  # the characters of a row; the eighth bit marks the cursor


class TextScreen:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._lines = [bytearray(b" " * COLUMNS) for _ in range(ROWS)]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        if "\x1b[2J" in text:
            self.clear()
        for character in _ESCAPE.sub("", text):
            if character == "\n":
                self._line_feed()
            elif character == "\b":
                self._column = max(self._column - 1, 0)
                self._lines[self._row][self._column] = 32
            elif character >= " ":
                if self._column == COLUMNS:
                    self._line_feed()
                self._lines[self._row][self._column] = ord(character) if ord(character) < 127 else 127
                self._column += 1

    def _line_feed(self) -> None:
        self._column = 0
        if self._row < ROWS - 1:
            self._row += 1
        else:
            self._lines = [*self._lines[1:], bytearray(b" " * COLUMNS)]

    def lines(self) -> list[Line]:
        shown = [bytes(line) for line in self._lines]
        if self._column < COLUMNS:
            line = bytearray(self._lines[self._row])
            line[self._column] |= 128
            shown[self._row] = bytes(line)
        return shown

    def text(self) -> str:
        return "\n".join(line.decode("ascii").rstrip() for line in self._lines).rstrip()


def pixels(line: Line) -> list[bytes]:
    """The rows of pixels of a piece of a line; each byte is a place in PALETTE."""
    cells = [_FONT.cell(character & 127, bool(character & 128)) for character in line]
    return [b"".join(cell[y] for cell in cells) for y in range(CELL_HEIGHT)]


def png(lines: list[Line]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row for line in lines for row in pixels(line))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    colours = b"".join(bytes(colour) for colour in PALETTE)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", colours) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Console:
    """Keyboard and screen of one machine that is on. `watchers` are called when the picture changed."""

    def __init__(self, world: World, machine: VirtualMachine) -> None:
        self.world, self.machine = world, machine
        self.screen = TextScreen()
        self.watchers: set[Callable[[], None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.boot()

    def boot(self) -> None:
        """The machine was switched on or reset."""
        self.close()
        self._typed, self._username = "", ""
        self._shell: Shell | None = None
        self._output: Iterator[str] | None = None
        self._asks_password = False
        self._boot_id = self.machine.boot_id
        if self.world.booted(self.machine):
            self._booted()
            return
        self.screen.clear()
        self._write(f"SimBIOS 1.0   {self.machine.memory_mib} MiB\n\nBooting from hard disk...\nLoading Linux 6.1.0-simulated ...\n")
        self._timer = asyncio.get_running_loop().call_later(self.machine.boots_until - self.world.now(), self._booted)

    def power_changed(self) -> None:
        if self.machine.boot_id != self._boot_id:
            self.boot()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def key(self, character: str) -> None:
        """A key: a printable character, Return as LF, Backspace as BS, ^C as ETX."""
        if not self.world.booted(self.machine):
            return
        if character == "\x03":
            self._output, self._typed, self._asks_password = None, "", False
            self._write("^C\n")
            self._prompt()
        elif self._output is not None:
            return
        elif character == "\n":
            self._write("\n")
            line, self._typed = self._typed, ""
            self._enter(line)
        elif character == "\b":
            if self._typed:
                self._typed = self._typed[:-1]
                self._write("" if self._asks_password else "\b")
        elif character.isprintable() and len(self._typed) < 200:
            self._typed += character
            self._write("" if self._asks_password else character)

    def _booted(self) -> None:
        self.screen.clear()
        self._write(f"{banner(self.machine, self.world)} {self.machine.disk.hostname} tty1\nThis machine is simulated.\n\n")
        self._prompt()

    def _prompt(self) -> None:
        self._write(self._shell.prompt if self._shell else f"{self.machine.disk.hostname} login: ")

    def _enter(self, line: str) -> None:
        if self._shell:
            self._output = self._shell.execute(line)
            self._go_on()
        elif self._asks_password:
            self._asks_password = False
            if password_opens(self.machine, self._username, line):
                self._shell = Shell(self.world, self.machine, lambda: (ROWS, COLUMNS))
            else:
                self._write("\nLogin incorrect\n")
            self._prompt()
        elif line:
            self._username, self._asks_password = line, True
            self._write("Password: ")
        else:
            self._prompt()

    def _go_on(self) -> None:
        """Show the next pieces of a command's output; what does not end goes on a little later."""
        if self._output is None:
            return
        try:
            pieces = list(islice(self._output, FLOOD_PIECES))
        except Exit:
            self._output, self._shell = None, None
            if self.machine.on and self.machine.boot_id == self._boot_id:
                self._booted()
            return
        if pieces:
            self._write("".join(pieces))
            self._timer = asyncio.get_running_loop().call_later(FLOOD_INTERVAL if len(pieces[-1]) > 1000 else 0, self._go_on)
        else:
            self._output = None
            self._prompt()

    def _write(self, text: str) -> None:
        self.screen.write(text)
        for watcher in tuple(self.watchers):
            watcher()
