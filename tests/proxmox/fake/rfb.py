"""A VNC server (RFB 3.8, VNC authentication, raw encoding) with a picture that changes: a beating square, and a cell for every key pressed."""

import asyncio
import secrets
import struct

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from .wire import Gone

WIDTH, HEIGHT, CELL = 320, 200, 8
BEAT_SECONDS = 0.5
TRUE_COLOUR = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
VNC_AUTHENTICATION = 2


class Screen:
    """What a guest shows. One per guest; every viewer sees the same."""

    def __init__(self):
        self.pixels = bytearray(bytes((16, 16, 48)) * WIDTH * HEIGHT)
        self.keys: list[int] = []  # keysyms, as they were pressed
        self.clicks: list[tuple[int, int]] = []
        self.viewers: set[Viewer] = set()
        self._beats = 0

    def fill(self, x, y, width, height, colour):
        for row in range(y, y + height):
            at = (row * WIDTH + x) * 3
            self.pixels[at : at + width * 3] = bytes(colour) * width
        for viewer in self.viewers:
            viewer.changed((x, y, width, height))

    def press(self, keysym):
        """The n-th key fills the n-th cell below the first row with a colour made of its keysym."""
        columns = WIDTH // CELL
        place = len(self.keys) % (columns * (HEIGHT // CELL - 2))
        self.keys.append(keysym)
        self.fill(place % columns * CELL, (2 + place // columns) * CELL, CELL, CELL, (keysym & 255, 255 - (keysym & 255), keysym >> 8 & 255))

    def beat(self):
        self._beats += 1
        self.fill(WIDTH - CELL, 0, CELL, CELL, (255, 255, 255) if self._beats % 2 else (0, 128, 0))


class Viewer:
    def __init__(self, wire, screen, name):
        self._wire, self._screen, self._name = wire, screen, name
        self._format = TRUE_COLOUR
        self._dirty: list[tuple[int, int, int, int]] = []
        self._asked = False

    def changed(self, rectangle):
        if rectangle not in self._dirty:
            self._dirty.append(rectangle)

    async def serve(self, password):
        if not await self._handshake(password):
            return
        self._screen.viewers.add(self)
        painter = asyncio.ensure_future(self._paint())
        try:
            while True:
                await self._message()
        finally:
            painter.cancel()
            self._screen.viewers.discard(self)

    async def _handshake(self, password):
        await self._wire.send(b"RFB 003.008\n")
        if await self._wire.read(12) != b"RFB 003.008\n":
            return False
        await self._wire.send(bytes((1, VNC_AUTHENTICATION)))
        if await self._wire.read(1) != bytes((VNC_AUTHENTICATION,)):
            return False
        challenge = secrets.token_bytes(16)
        await self._wire.send(challenge)
        if not secrets.compare_digest(await self._wire.read(16), _answer(challenge, password)):
            reason = b"Authentication failed"
            await self._wire.send(struct.pack(">II", 1, len(reason)) + reason)
            return False
        await self._wire.send(struct.pack(">I", 0))
        await self._wire.read(1)
        name = self._name.encode()
        await self._wire.send(struct.pack(">HH", WIDTH, HEIGHT) + TRUE_COLOUR + struct.pack(">I", len(name)) + name)
        return True

    async def _message(self):
        kind = (await self._wire.read(1))[0]
        if kind == 0:
            self._format = (await self._wire.read(19))[3:]
        elif kind == 2:
            count = struct.unpack(">xH", await self._wire.read(3))[0]
            await self._wire.read(4 * count)
        elif kind == 3:
            incremental = (await self._wire.read(9))[0]
            if not incremental:
                self._dirty = [(0, 0, WIDTH, HEIGHT)]
            self._asked = True
            await self._update()
        elif kind == 4:
            down, keysym = struct.unpack(">BxxI", await self._wire.read(7))
            if down:
                self._screen.press(keysym)
                await self._update()
        elif kind == 5:
            buttons, x, y = struct.unpack(">BHH", await self._wire.read(5))
            if buttons:
                self._screen.clicks.append((x, y))
        elif kind == 6:
            await self._wire.read(struct.unpack(">xxxI", await self._wire.read(7))[0])
        else:
            raise Gone

    async def _paint(self):
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._screen.beat()
            await self._update()

    async def _update(self):
        if not (self._asked and self._dirty):
            return
        rectangles, self._dirty, self._asked = self._dirty, [], False
        parts = [struct.pack(">BxH", 0, len(rectangles))]
        for x, y, width, height in rectangles:
            parts += [struct.pack(">HHHHi", x, y, width, height, 0), self._raw(x, y, width, height)]
        await self._wire.send(b"".join(parts))

    def _raw(self, x, y, width, height):
        pixels = self._screen.pixels
        rgb = b"".join(pixels[(row * WIDTH + x) * 3 : (row * WIDTH + x + width) * 3] for row in range(y, y + height))
        bits, _, big_endian, _, red, green, blue, *shifts = struct.unpack(">BBBBHHHBBBxxx", self._format)
        size, order = bits // 8, "big" if big_endian else "little"
        known = {}
        out = bytearray()
        for at in range(0, len(rgb), 3):
            colour = rgb[at : at + 3]
            if colour not in known:
                scaled = [value * most // 255 for value, most in zip(colour, (red, green, blue), strict=True)]
                known[colour] = sum(value << shift for value, shift in zip(scaled, shifts, strict=True)).to_bytes(size, order)
            out += known[colour]
        return bytes(out)


def _answer(challenge, password):
    """DES of the challenge; the key is the first eight bytes of the password, each with its bits turned round."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
    return encryptor.update(challenge) + encryptor.finalize()
