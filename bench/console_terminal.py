"""The terminal's side of bench/console: an sshd of its own, the `ssh` client, and a browser's terminal."""

import getpass
import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncssh

from bench.console_rig import RELAY_CORE, RIG_CORE, Portal, free_port, on_core, wait_for_port

READY = b"<<GO>>"
SAY_READY = "printf '<<%s>>' GO"  # not as the line that is typed says it
STOPPED = b"[stopped]"
ACK_BYTES = 65536
FILE_BYTES = 64_000_000


@dataclass(frozen=True)
class Sshd:
    port: int
    username: str
    key_file: Path
    private_key: str
    file: Path  # text like a log
    flood: Path  # a script that says it without end, and STOPPED at ^C


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """An sshd of the account that runs this, on a port of its own, with keys of its own."""
    folder = folder / f"sshd-{free_port()}"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        (folder / name).chmod(0o600)
        key.write_public_key(str(folder / f"{name}.pub"))
    port = free_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nForceCommand exec /bin/sh\n"
    )
    file = folder / "log"
    lines = [
        f"2026-11-21T10:{at // 60 % 60:02}:{at % 60:02} host service[{random.randrange(9999)}]: request {at} served in {random.random():.6f} s\n"
        for at in range(10_000)
    ]
    text = "".join(lines).encode()
    file.write_bytes(text * (FILE_BYTES // len(text) + 1))
    flood = folder / "flood"
    flood.write_text(f"trap 'printf {STOPPED.decode()}; exit' INT\nwhile :; do cat {file}; done\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    program = next((path for path in ("/usr/sbin/sshd", "/usr/bin/sshd") if Path(path).exists()), None) or sys.exit(
        "The terminals need an SSH server: apt-get install openssh-server, or leave them out with --only."
    )
    with subprocess.Popen(on_core(RIG_CORE, program, "-D", "-f", str(folder / "config"), "-E", str(folder / "sshd.log"))) as process:
        try:
            wait_for_port(port)
            yield Sshd(port, getpass.getuser(), folder / "user", (folder / "user").read_text(), file, flood)
        finally:
            process.terminate()


class Shell:
    """A shell on a terminal, by whatever way. Reads and writes block."""

    def read(self) -> bytes:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: str) -> bytes:
        """Type a command behind which the terminal is raw; the answer is what came after it said so."""
        self.write(f"stty raw -echo; {SAY_READY}; {command}\n".encode())
        return self.read_until(READY)

    def read_until(self, mark: bytes) -> bytes:
        seen = b""
        while mark not in seen:
            seen = seen[-len(mark) :] + self.read()
        return seen.partition(mark)[2]

    def bulk(self, file: Path, size: int) -> float:
        """MB/s of a file."""
        have = len(self.run(f"head -c {size} {file}"))
        began = time.perf_counter()
        while have < size:
            have += len(self.read())
        return have / (time.perf_counter() - began) / 1e6

    def keys(self, count: int) -> list[float]:
        """Seconds until a key comes back from `cat`, one after the other."""
        self.run("exec cat")
        found = []
        for _ in range(count):
            began = time.perf_counter()
            self.write(b"x")
            self.read()
            found.append(time.perf_counter() - began)
            time.sleep(0.003)
        return found


class SshClient(Shell):
    """The `ssh` client on the relay's core, in the relay's place."""

    def __init__(self, server: Sshd) -> None:
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR"]
        flags = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-F", "none", "-tt", "-i", str(server.key_file), "-p", str(server.port), *flags, f"{server.username}@127.0.0.1"]
        self.process = subprocess.Popen(on_core(RELAY_CORE, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def read(self) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 65536) or sys.exit("ssh ended")

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), data)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Terminal(Shell):
    """A browser's terminal: one WebSocket, with acknowledgements of what was drawn, as the page sends them."""

    def __init__(self, portal: Portal) -> None:
        (headers,) = portal.tickets(1, "terminal")
        self.socket = socket.create_connection(("127.0.0.1", portal.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = [
            "GET /console/terminal/ HTTP/1.1", f"Host: 127.0.0.1:{portal.port}", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", "",
        ]  # fmt: skip
        self.socket.sendall("\r\n".join(handshake).encode())
        self.held = b""
        while b"\r\n\r\n" not in self.held:
            self.held += self.socket.recv(4096)
        head, _, self.held = self.held.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"The portal answered {head[:60]!r}.")
        self.payload = 0  # bytes of the frame under way
        self.drawn = 0
        self.control({"type": "ack", "bytes": 0})  # as the page does: hold back what was not drawn

    def read(self, limit: int = 65536) -> bytes:
        while not (data := self._payload_of(self.socket.recv(limit))):
            pass
        self.drawn += len(data)
        if self.drawn >= ACK_BYTES:
            self.control({"type": "ack", "bytes": self.drawn})
            self.drawn = 0
        return data

    def _payload_of(self, data: bytes) -> bytes:
        """What of the bytes that came is the terminal's; the head of a frame may be held back."""
        data = self.held + data if self.held else data
        self.held = b""
        found, at = [], 0
        while at < len(data):
            if self.payload:
                part = data[at : at + self.payload]
                self.payload -= len(part)
                at += len(part)
                found.append(part)
                continue
            length = data[at + 1] if at + 1 < len(data) else 0
            head = {126: 4, 127: 10}.get(length, 2)
            if at + head > len(data):
                self.held = data[at:]
                break
            if data[at] == 0x88:
                sys.exit(f"The portal closed the terminal: {data[at + 2 : at + 200]!r}")
            self.payload = length if head == 2 else int.from_bytes(data[at + 2 : at + head], "big")
            at += head
        return b"".join(found)

    def write(self, data: bytes) -> None:
        self._send(0x82, data)

    def control(self, message: dict[str, object]) -> None:
        self._send(0x81, json.dumps(message).encode())

    def _send(self, opcode: int, data: bytes) -> None:
        assert len(data) < 65536
        length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.socket.sendall(bytes((opcode,)) + length + b"\0\0\0\0" + data)  # masked with zeroes

    def close(self) -> None:
        self.socket.close()

    def interrupt(self, flood: Path, speed: float, after: float) -> float:
        """Seconds from ^C, pressed `after` seconds into a flood, until the shell's answer to it,
        for a browser that takes `speed` bytes a second."""
        self.write(f"sh {flood}\n".encode())
        self.read_until(b": request ")
        seen, taken = b"", 0
        began, pressed = time.perf_counter(), 0.0
        while STOPPED not in seen:
            now = time.perf_counter() - began
            if not pressed and now >= after:
                self.write(b"\x03")
                pressed = now
            due = int(now * speed) - taken
            if due < 4096 or not select.select([self.socket], [], [], 0.001)[0]:
                time.sleep(0.001)
                continue
            data = self.read(min(due, 65536))
            taken += len(data)
            seen = seen[-len(STOPPED) :] + data
        return time.perf_counter() - began - pressed
