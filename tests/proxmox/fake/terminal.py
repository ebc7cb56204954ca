"""What termproxy serves: its framing, and behind it a shell that knows echo, whoami, stty size and exit."""

import asyncio

from .wire import Gone

LOGIN_SECONDS = 10
PROMPT = b"root@guest:~# "


class Terminal:
    """The text console of a guest. One per guest; it remembers what was typed and how big the last window was."""

    def __init__(self):
        self.typed = b""
        self.size = (80, 24)
        self.keep_alives = 0

    async def serve(self, wire, user, ticket, greeting):
        """First message `USER:TICKET\\n`, answered by OK; then `0:LEN:DATA`, `1:COLUMNS:ROWS:` and `2`.
        What comes back is raw. (PVE's termproxy helper reads bytes: frames do not matter to it.)"""
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                login = await wire.until(b"\n")
        except TimeoutError:
            return
        if login != f"{user}:{ticket}".encode():
            return
        await wire.send(b"OK")
        await wire.send(greeting + PROMPT)
        line = b""
        while True:
            data = await self._input(wire)
            self.typed += data
            for byte in data:
                line = await self._key(wire, line, bytes((byte,)))

    async def _input(self, wire):
        kind = await wire.read(1)
        if kind == b"2":
            self.keep_alives += 1
            return b""
        if await wire.read(1) != b":":
            raise Gone
        if kind == b"0":
            return await wire.read(int(await wire.until(b":")))
        if kind == b"1":
            self.size = int(await wire.until(b":")), int(await wire.until(b":"))
            return b""
        raise Gone

    async def _key(self, wire, line, key):
        if key in (b"\r", b"\n"):
            await wire.send(b"\r\n" + await self._run(wire, line.decode(errors="replace").strip()) + PROMPT)
            return b""
        if key == b"\x03":
            await wire.send(b"^C\r\n" + PROMPT)
            return b""
        if key in (b"\x7f", b"\x08"):
            await wire.send(b"\x08 \x08" if line else b"")
            return line[:-1]
        await wire.send(key)
        return line + key

    async def _run(self, wire, command):
        name, _, rest = command.partition(" ")
        if name == "exit":
            await wire.send(b"logout\r\n")
            raise Gone
        said = {"": "", "echo": rest, "whoami": "root", "stty": f"{self.size[1]} {self.size[0]}"}.get(name, f"-bash: {name}: command not found")
        return said.encode() + b"\r\n" if name else b""
