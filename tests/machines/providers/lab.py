"""The bench the provider contract works at: machines, their guests, and waiting with a deadline."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import asyncssh
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from machines.providers.base import Provider
from machines.providers.types import (
    ConsoleTarget,
    MachineIdentity,
    MachineSpec,
    ObservedMachine,
    Power,
    Presence,
    Seed,
    Sighting,
    StopMode,
    TaskRef,
    TaskState,
)

Answer = TypeVar("Answer")
FIRST_NUMBER = 150_000  # of the refs where a provider wants numbers


def until(ask: Callable[[], Answer], seconds: float, what: str, *ignored: type[Exception]) -> Answer:
    """Ask until the answer is true; exceptions of the `ignored` kinds count as no. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            if answer := ask():
                return answer
        except ignored as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}") from last
        time.sleep(0.05)


class BehindOurBack(Protocol):
    """What a person with the hypervisor's own tools can do."""

    def plant(self, ref: str) -> None:
        """Put a machine without any label at `ref`."""

    def power_off(self, ref: str) -> None: ...

    def delete(self, ref: str) -> None: ...


@dataclass(frozen=True)
class Made:
    identity: MachineIdentity
    ref: str
    spec: MachineSpec


class Lab:
    def __init__(self, connect: Callable[[], Provider], template: str, *, memory_mib: int, task_seconds: float, boot_seconds: float) -> None:
        self.provider = connect()
        self.portal = self.provider.settings.portal
        self.template = template
        self.memory_mib, self.task_seconds, self.boot_seconds = memory_mib, task_seconds, boot_seconds
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self._made: list[Made] = []
        self._numbers = itertools.count(FIRST_NUMBER)

    def close(self) -> None:
        """Leave nothing behind, not even of tests that failed."""
        for made in self._made:
            if self.find(made).presence is Presence.OURS:
                self.destroy(made)
        self.provider.close()

    def new(self, **changes: object) -> Made:
        """A machine that could be: identity, ref and spec, nothing on the cluster yet."""
        key = str(uuid.uuid4())
        name = f"contract-{key[:8]}"
        seed = Seed(hostname=name, username="student", password=f"pw-{key[:12]}", ssh_keys=(self.key.export_public_key().decode().strip(),))
        spec = replace(MachineSpec(template=self.template, cores=1, memory_mib=self.memory_mib, seed=seed), **changes)
        ref = str(next(self._numbers)) if self.provider.capabilities.numbered else key
        made = Made(MachineIdentity(key=key, name=name, portal=self.portal), ref, spec)
        self._made.append(made)
        return made

    def create(self, identity: MachineIdentity | None = None, ref: str = "") -> Made:
        made = self.new()
        if identity:
            made = replace(made, identity=identity, ref=ref or made.ref if self.provider.capabilities.numbered else ref or identity.key)
            self._made.append(made)
        self.settle(self.provider.begin_create(made.identity, made.ref, made.spec))
        self.configure(made)
        return made

    def configure(self, made: Made) -> None:
        """Until nothing is left to be done."""
        for _ in range(5):
            task = self.provider.ensure_configured(made.identity, made.ref, made.spec)
            if task is None:
                return
            self.settle(task)
        raise AssertionError(f"{made.identity.name} is never configured")

    def destroy(self, made: Made) -> None:
        """Until nothing is left to be done."""
        for _ in range(5):
            task = self.provider.begin_destroy(made.identity, made.ref)
            if task is None:
                return
            self.settle(task)
        raise AssertionError(f"{made.identity.name} is never destroyed")

    def force_off(self, made: Made) -> None:
        self.settle(self.provider.begin_stop(made.identity, made.ref, StopMode.FORCE))

    def find(self, made: Made) -> Sighting:
        return self.provider.find(made.identity, made.ref)

    def line(self, ref: str) -> ObservedMachine | None:
        return next((machine for machine in self.provider.inventory().machines if machine.ref == ref), None)

    def settle(self, task: object) -> None:
        """Follow a task to its end. Raises the error it failed with."""
        if not isinstance(task, TaskRef):
            return

        def ended() -> TaskState | None:
            status = self.provider.poll([task])[task]
            if status.state is TaskState.FAILED:
                assert status.error is not None
                raise status.error
            assert status.progress is None or 0 <= status.progress <= 1
            return None if status.state is TaskState.RUNNING else status.state

        assert until(ended, self.task_seconds, f"task {task} ends") is TaskState.SUCCEEDED

    def boot(self, made: Made) -> "Guest":
        """Switch the machine on where it is off, and wait for its SSH banner."""
        if self.find(made).power is not Power.ON:
            self.settle(self.provider.begin_start(made.identity, made.ref))
        guest = Guest(self, made)
        until(guest.answers, self.boot_seconds, f"{made.identity.name} answers SSH", OSError)
        return guest


class Guest:
    """The inside of a machine, over SSH."""

    def __init__(self, lab: Lab, made: Made) -> None:
        self.lab, self.made = lab, made

    def address(self) -> tuple[str, int]:
        line = self.lab.line(self.made.ref)
        assert line is not None
        for endpoint in line.endpoints:
            if endpoint.service == "ssh":
                return endpoint.host, endpoint.port or 22
        raise ConnectionError("no address is known")

    def answers(self) -> bool:
        async def banner() -> bytes:
            reader, writer = await asyncio.open_connection(*self.address())
            try:
                return await asyncio.wait_for(reader.read(4), 5)
            finally:
                writer.close()

        return asyncio.run(banner()) == b"SSH-"

    def run(self, command: str, *, password: str = "") -> str:
        """Output of `command`, without the last line feed. Raises PermissionError."""

        async def run() -> str:
            host, port = self.address()
            assert self.made.spec.seed is not None
            way_in = {"password": password, "client_keys": None} if password else {"client_keys": [self.lab.key]}
            options = {"username": self.made.spec.seed.username, "known_hosts": None, "config": None, "agent_path": None, "login_timeout": 30, **way_in}
            async with asyncssh.connect(host, port, **options) as connection:
                result = await connection.run(command, timeout=30)
                return str(result.stdout).strip()

        try:
            return asyncio.run(run())
        except asyncssh.PermissionDenied as error:
            raise PermissionError(str(error)) from error
        except asyncssh.Error as error:
            raise ConnectionError(str(error)) from error


async def rfb_security_result(target: ConsoleTarget, password: str) -> int:
    """Whether a console lets in with this password: 0 is in, anything else refused."""
    reader, writer = await rfb_connect(target)
    try:
        return await rfb_authenticate(reader, writer, password)
    finally:
        writer.close()


async def rfb_connect(target: ConsoleTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connecting = asyncio.open_unix_connection(target.path) if target.path else asyncio.open_connection(target.host, target.port)
    return await asyncio.wait_for(connecting, 10)


async def rfb_authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str) -> int:
    """Speak RFB 3.8 up to the end of VNC authentication."""
    async with asyncio.timeout(20):
        assert (await reader.readexactly(12)).startswith(b"RFB 003.")
        writer.write(b"RFB 003.008\n")
        kinds = await reader.readexactly((await reader.readexactly(1))[0])
        assert 2 in kinds, "VNC authentication is not offered"
        writer.write(b"\x02")
        challenge = await reader.readexactly(16)
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
        encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # VNC's own use of DES
        writer.write(encryptor.update(challenge) + encryptor.finalize())
        return int.from_bytes(await reader.readexactly(4), "big")
