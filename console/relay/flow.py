"""Bytes under way: bounded, coalesced, and held back at their source when nobody takes them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from .endings import Ending, RelayError

HIGH_WATER = 256 * 1024  # bytes held for one direction of one console before its source is paused
STALL_SECONDS = 60  # a machine that takes nothing for so long has hung


class Connection(Protocol):
    """The machine's side of a console."""

    async def read(self) -> bytes:
        """Everything that has come since the last call; b"" once the other side has closed."""

    def write(self, data: bytes) -> None:
        """Hand bytes over. Callers await `drain` before the next ones."""

    async def drain(self) -> None:
        """Wait until the machine has taken enough of what was written, or has closed.
        Raises RelayError(TOO_SLOW) after a minute."""

    def close(self) -> None:
        """Let go at once. May be called twice."""


class Terminal(Connection, Protocol):
    """The machine's side of a terminal."""

    @property
    def exit_status(self) -> int | None:
        """What the shell left with: 0 to 255, minus the signal's number, or None when it has not ended by itself."""

    def resize(self, cols: int, rows: int) -> None: ...


@asynccontextmanager
async def opening(what: str, seconds: float) -> AsyncIterator[None]:
    """Bounds the opening of a connection to `what`. Raises RelayError, REFUSED or TIMEOUT, for
    everything that the network does."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise RelayError(Ending.TIMEOUT, f"no answer from the {what} in {seconds:g} s") from error
    except OSError as error:
        raise RelayError(Ending.REFUSED, f"cannot connect to the {what}: {error}") from error
    except EOFError as error:
        raise RelayError(Ending.REFUSED, f"the {what} hung up") from error


class Inlet:
    """What arrived and was not read yet, with one reader.

    Above HIGH_WATER bytes `pause` is called, and `resume` when they were read.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def unread(self, data: bytes) -> None:
        """Give back what was read too much: it comes first again."""
        if data:
            self._chunks.insert(0, data)
            self._size += len(data)
            self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    async def read(self) -> bytes:
        """Everything there is, in one piece; b"" after the end."""
        while not self._chunks:
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if not self._ended:
                self._resume()
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Outlet:
    """Whether the other side takes what is written."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def drain(self) -> None:
        """Wait while paused. Raises RelayError(TOO_SLOW)."""
        if self._open.is_set():
            return
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._open.wait()
        except TimeoutError:
            raise RelayError(Ending.TOO_SLOW, f"the machine took nothing for {STALL_SECONDS} s") from None


class Source(Protocol):
    """What bytes come from: a transport of asyncio, a channel of asyncssh."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Flow:
    """The part of a `Connection` that is the same whatever the machine speaks. asyncio calls its
    protocols and asyncssh its sessions by the same names; `connection_made` sets `_source`.
    """

    _source: Source

    def __init__(self) -> None:
        self._inlet = Inlet(lambda: self._source.pause_reading(), lambda: self._source.resume_reading())
        self._outlet = Outlet()

    async def read(self) -> bytes:
        return await self._inlet.read()

    async def drain(self) -> None:
        await self._outlet.drain()

    def data_received(self, data: bytes, datatype: object = None) -> None:
        self._inlet.feed(data)

    def pause_writing(self) -> None:
        self._outlet.pause()

    def resume_writing(self) -> None:
        self._outlet.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inlet.end()
        self._outlet.resume()


class Exactly:
    """Reads a handshake piece by piece; `rest` is what came after it."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self.rest = b""

    async def take(self, count: int) -> bytes:
        """Raises EOFError when the other side closes before `count` bytes were there."""
        while len(self.rest) < count:
            data = await self._read()
            if not data:
                raise EOFError
            self.rest += data
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken
