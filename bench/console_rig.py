"""What bench/console measures with: the load generator, the portal, websockify, and looks at processes.

The relay under test has one core to itself; everything else runs on the other.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parent.parent
CORES = sorted(os.sched_getaffinity(0))
RIG_CORE, RELAY_CORE = CORES[0], CORES[-1]
DEADLINE = 30  # seconds for a process to be there
MEBI = 1e6  # console.md's MB


def on_core(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


class Relay:
    """A process under test, with its children, and the way a viewer gets in."""

    name: str
    port: int
    path: str

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = psutil.Process(process.pid)

    def headers(self, count: int) -> str:
        """The file of further headers for `count` connections, "" for none."""
        return ""

    def cpu(self) -> float:
        """Seconds of processor time so far, children that ended included."""
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):  # one that ended just now counts as the parent's: look again
                times = [process.cpu_times() for process in self._tree()]
                return sum(each.user + each.system for each in times) + times[0].children_user + times[0].children_system

    def pss(self) -> float:
        """Proportional set size in bytes."""
        return float(sum(_pss(process.pid) for process in self._tree()))

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def _pss(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class Websockify(Relay):
    name = "websockify"
    path = "/websockify"


@contextmanager
def websockify(vnc_port: int) -> Iterator[Websockify]:
    port = free_port()
    command = on_core(RELAY_CORE, sys.executable, "-m", "websockify", f"127.0.0.1:{port}", f"127.0.0.1:{vnc_port}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            wait_for_port(port)
            relay = Websockify(process)
            relay.port = port
            yield relay
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


class Portal(Relay):
    """`manage.py web` on a fresh database with one machine that is on."""

    name = "labportal"
    path = "/console/screen/"

    def __init__(self, process: subprocess.Popen[str], folder: Path, port: int, user: Any, machine: Any) -> None:
        super().__init__(process)
        self.folder, self.port, self.user, self.machine = folder, port, user, machine

    def headers(self, count: int) -> str:
        file = self.folder / "headers"
        file.write_text("".join("|".join(lines) + "\n" for lines in self.tickets(count, "screen")))
        return str(file)

    def tickets(self, count: int, kind: str) -> list[list[str]]:
        """Further request headers of `count` browsers, each with a ticket of its own. Inserted here,
        since nobody may ask for so many; they are redeemed as every ticket is."""
        from django.utils import timezone

        from console.consumers import SUBPROTOCOL, TICKET
        from console.models import ConsoleTicket

        tokens = [secrets.token_urlsafe(32) for _ in range(count)]
        expires_at = timezone.now() + timedelta(hours=1)
        ConsoleTicket.objects.bulk_create(
            ConsoleTicket(digest=hashlib.sha256(token.encode()).hexdigest(), user=self.user, machine=self.machine, kind=kind, expires_at=expires_at)
            for token in tokens
        )
        common = [f"Cookie: {self.cookie()}", f"Origin: http://127.0.0.1:{self.port}"]
        return [[*common, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}, {TICKET}{token}"] for token in tokens]

    @contextmanager
    def without_tickets(self) -> Iterator["Portal"]:
        """Screens for whoever is signed in, meanwhile."""
        self.path = "/bench/screen/"
        yield self
        del self.path

    def cookie(self) -> str:
        from django.conf import settings
        from django.test import Client

        client = Client()
        client.force_login(self.user, backend=settings.AUTHENTICATION_BACKENDS[0])
        return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"

    def answers_ssh_at(self, port: int, username: str, private_key: str) -> None:
        self.machine.endpoints = [{"service": "ssh", "host": "127.0.0.1", "port": port, "source": "forward"}]
        self.machine.username, self.machine.ssh_private_key = username, private_key
        self.machine.save()


@contextmanager
def portal(folder: Path, vnc_port: int) -> Iterator[Portal]:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="bench.console_stack",
        DATA_DIR=str(folder),
        DATABASE_URL=f"sqlite:///{folder}/labportal.sqlite3",
        SECRET_KEY=uuid.uuid4().hex * 2,
        FIELD_KEYS=Fernet.generate_key().decode(),
        PORTAL_ID=str(uuid.uuid4()),
        LOG_LEVEL="WARNING",
        BENCH_VNC_PORT=str(vnc_port),
    )
    (folder / "static").mkdir()
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    user, machine = _rows()
    log = folder / "web.log"
    command = on_core(RELAY_CORE, sys.executable, "manage.py", "web", "--port", "0")
    with log.open("w") as errors, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith("Listening on "):
                sys.exit(f"The portal did not start:\n{log.read_text()}")
            yield Portal(process, folder, int(said.rstrip("/\n").rpartition(":")[2]), user, machine)
        finally:
            process.terminate()
            process.wait()
            if said := log.read_text():
                print(f"The portal's log:\n{said[-3000:]}", file=sys.stderr)


def _rows() -> tuple[Any, Any]:
    from django.utils import timezone

    from accounts.models import User
    from bench.console_stack import KIND
    from machines.lifecycle import State
    from machines.models import Cluster, Machine, Template

    user = User.objects.create_user("bench", email="bench@uni.test")
    cluster = Cluster.objects.create(name="rig", kind=KIND, reachable=True, seen_at=timezone.now())
    template = Template.objects.create(cluster=cluster, ref="none", name="none")
    machine = Machine.objects.create(
        name="screen", owner=user, cluster=cluster, template=template, ref="screen", state=State.RUNNING, power="on", made_at=timezone.now()
    )
    return user, machine


@dataclass(frozen=True)
class Load:
    """The C program: its VNC server's port, and viewers on demand."""

    program: str
    vnc_port: int

    def drive(self, relay: Relay, mode: str, *, sessions: int = 1, size: int = 0, total: float = 0, rate: float = 0, seconds: float = 0) -> dict[str, float]:
        """Run viewers to their end and read what they measured."""
        with self.standing(relay, mode, sessions=sessions, size=size, total=total, rate=rate, seconds=seconds, stands=False) as viewers:
            return viewers.result()

    @contextmanager
    def standing(
        self,
        relay: Relay,
        mode: str,
        *,
        sessions: int = 1,
        size: int = 0,
        total: float = 0,
        rate: float = 0,
        seconds: float = 0,
        tickets: int = 0,
        stands: bool = True,
    ) -> Iterator["Viewers"]:
        """Viewers that stand still in the middle, until told to go on."""
        headers = relay.headers(tickets or sessions)
        numbers = [str(sessions), str(size), str(int(total)), str(rate), str(seconds)]
        command = on_core(RIG_CORE, self.program, "drive", str(relay.port), relay.path, headers, mode, *numbers)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                viewers = Viewers(process)
                if stands:
                    viewers.until_standing()
                yield viewers
            finally:
                process.kill()


class Viewers:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, float]] = []

    def until_standing(self) -> None:
        while "standing" not in (line := self._line()):
            self.lines.append(line)

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, float]:
        return self.lines[0] if self.lines else self._line()

    def _line(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("The load generator gave up; see above.")
        found: dict[str, float] = json.loads(line)
        return found


@contextmanager
def load(folder: Path) -> Iterator[Load]:
    program = str(folder / "console_load")
    compiler = shutil.which("gcc") or shutil.which("cc") or sys.exit("bench/console needs a C compiler: apt-get install gcc libc6-dev")
    subprocess.run([compiler, "-O2", "-o", program, ROOT / "bench" / "console_load.c"], check=True)
    with subprocess.Popen(on_core(RIG_CORE, program, "serve"), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Load(program, int(process.stdout.readline()))
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"Nothing listens on port {port}.")
            time.sleep(0.02)
