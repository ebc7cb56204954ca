"""The SSH servers of simulated machines: a port of loopback each, a protocol only while somebody is connected."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import asyncssh

from .guest import Exit, Shell, banner, password_opens
from .machine import VirtualMachine
from .world import World

BACKLOG = 16
LOGIN_SECONDS = 30
INTERRUPT = "\x03"


class SecureShells:
    """Keeps a port open for every machine that is on. Accepts at once, as a forwarded port does,
    and speaks when the guest has booted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._listening: dict[str, socket.socket] = {}
        self._connections: dict[str, set[asyncio.Task[None]]] = {}
        self._boots: dict[str, str] = {}
        world.power_listeners.append(self._power_changed)

    def close(self) -> None:
        for ref in tuple(self._listening):
            self._hang_up(ref)
            self._stop_listening(ref)

    def _power_changed(self, machine: VirtualMachine) -> None:
        if not machine.on:
            self._hang_up(machine.ref)
            self._stop_listening(machine.ref)
            return
        if self._boots.get(machine.ref) != machine.boot_id:
            self._hang_up(machine.ref)
            self._boots[machine.ref] = machine.boot_id
        if machine.ref not in self._listening:
            self._listen(machine)

    def _listen(self, machine: VirtualMachine) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", machine.ssh_port))  # the one it had, where that is free
        except OSError:
            listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        listening.setblocking(False)
        machine.ssh_port = listening.getsockname()[1]
        self._listening[machine.ref] = listening
        asyncio.get_running_loop().add_reader(listening, self._accept, machine, listening)

    def _stop_listening(self, ref: str) -> None:
        self._boots.pop(ref, None)
        if listening := self._listening.pop(ref, None):
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def _hang_up(self, ref: str) -> None:
        for connection in self._connections.pop(ref, set()):
            connection.cancel()

    def _accept(self, machine: VirtualMachine, listening: socket.socket) -> None:
        with suppress(OSError):
            peer, _address = listening.accept()
            peer.setblocking(False)
            connection = asyncio.get_running_loop().create_task(self._serve(machine, peer))
            connections = self._connections.setdefault(machine.ref, set())
            connections.add(connection)
            connection.add_done_callback(connections.discard)

    async def _serve(self, machine: VirtualMachine, peer: socket.socket) -> None:
        connection: asyncssh.SSHServerConnection | None = None
        try:
            await asyncio.sleep(max(machine.boots_until - self.world.now(), 0))
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = await asyncssh.run_server(
                peer,
                server_factory=lambda: _Door(self.world, machine),
                server_host_keys=[asyncssh.import_private_key(machine.disk.host_key)],
                encoding="utf-8",
                errors="replace",
                login_timeout=LOGIN_SECONDS,
                keepalive_interval=60,
                gss_host=None,
            )
            await connection.wait_closed()
        except (OSError, asyncssh.Error):
            pass
        finally:
            if connection:
                connection.abort()
            peer.close()


class _Door(asyncssh.SSHServer):
    """Lets in whom the seed named."""

    def __init__(self, world: World, machine: VirtualMachine) -> None:
        self._world, self._machine = world, machine

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password_opens(self._machine, username, password)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        disk = self._machine.disk
        return username == disk.username and any(key.public_data == known.public_data for known in _known_keys(disk.ssh_keys))

    def session_requested(self) -> "_Session":
        return _Session(self._world, self._machine)


def _known_keys(lines: tuple[str, ...]) -> Iterator[asyncssh.SSHKey]:
    for line in lines:
        with suppress(asyncssh.KeyImportError):
            yield asyncssh.import_public_key(line)


class _Session(asyncssh.SSHServerSession[str]):
    """A shell on a terminal, or one command."""

    def __init__(self, world: World, machine: VirtualMachine) -> None:
        self._machine = machine
        self._shell = Shell(world, machine, self._size)
        self._world = world
        self._entered: asyncio.Queue[str | None] = asyncio.Queue(64)
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._executing = self._interrupted = False
        self._rest = ""
        self._command = ""
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[str]) -> None:
        self._chan = chan

    def connection_lost(self, exc: Exception | None) -> None:
        if self._work:
            self._work.cancel()

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: object) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        self._work = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: str, datatype: int | None) -> None:
        *lines, self._rest = (self._rest + data).split("\n")
        self._rest = self._rest[-1000:]
        for line in lines:
            self._enter(line)

    def eof_received(self) -> bool:
        self._enter(None)
        return True

    def break_received(self, msec: int) -> bool:
        self._rest = ""
        while not self._entered.empty():  # what was typed ahead is gone, as on a terminal
            self._entered.get_nowait()
        if self._executing:
            self._interrupted = True
        else:
            self._enter(INTERRUPT)
        return True

    def signal_received(self, signal: str) -> None:
        self.break_received(0)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _enter(self, line: str | None) -> None:
        with suppress(asyncio.QueueFull):  # whoever pastes faster than the shell reads loses the rest, as on a slow line
            self._entered.put_nowait(line)

    def _size(self) -> tuple[int, int]:
        columns, rows, *_pixels = self._chan.get_terminal_size()
        return rows, columns

    async def _run(self) -> None:
        try:
            if self._command:
                await self._execute(self._command)
            else:
                await self._converse()
        except Exit:
            pass
        self._chan.exit(0)

    async def _converse(self) -> None:
        self._chan.write(f"{banner(self._machine, self._world)}. This machine is simulated; help lists what it knows.\n")
        while True:
            self._chan.write(self._shell.prompt)
            line = await self._entered.get()
            if line is None:
                return
            if line == INTERRUPT or not await self._execute(line):
                self._chan.write("^C\n")

    async def _execute(self, line: str) -> bool:
        """Whether it came to its end."""
        self._executing, self._interrupted = True, False
        for piece in self._shell.execute(line):
            self._chan.write(piece)
            await self._may_write.wait()
            await asyncio.sleep(0)  # so that ^C and the other machines get their turn
            if self._interrupted:
                break
        self._executing = False
        return not self._interrupted
