"""One process under watch: started in a group of its own, stopped by its main process, never left behind."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOG_LIMIT = 10 * 1024 * 1024  # bytes; beyond that the log is set aside as NAME.log.1
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a process that ended is started again; doubles each time
SETTLED = 60.0  # seconds a process has to live for its next end to count as the first
MARK = "LABPORTAL_UP"  # in the environment of everything a supervisor starts: the data folder it serves


@dataclass
class Child:
    """What to start, and how to see that it is well.

    `silence` tells for how many seconds the process has shown no sign of life, None where that
    cannot be known; past `patience` it is killed and started again. `grace` is how long it may
    take to end after SIGTERM. SIGTERM goes to the main process alone: django-q2 hangs for ever
    when its whole group gets it.
    """

    name: str
    argv: Sequence[str]
    log: Path | None  # None: the output goes where ours goes
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None
    grace: float = 10.0
    silence: Callable[[], float | None] | None = None
    patience: float = 60.0
    umask: int = 0o077

    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started: float = field(default=0.0, init=False)
    due: float = field(default=0.0, init=False)  # when to start it (again)
    _pause: float = field(default=FIRST_PAUSE, init=False)

    def start(self) -> None:
        with self.log.open("ab") if self.log else contextlib.nullcontext() as log:
            if log:
                log.write(f"--- {time.strftime('%F %T')} {self.name} starts\n".encode())
                log.flush()
            self.process = subprocess.Popen(
                self.argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
                user=self.user,
                group=self.group,
                extra_groups=[] if self.user is not None else None,
                umask=self.umask,
            )
        self.started = time.monotonic()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ended(self) -> str:
        """Clear up after the main process ended, and set when to start again. Says how it ended."""
        assert self.process is not None
        status = self.process.returncode
        self.kill()
        if time.monotonic() - self.started > SETTLED:
            self._pause = FIRST_PAUSE
        self.due = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.process = None
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def stuck(self) -> float | None:
        """For how long it has shown no sign of life, where that is too long."""
        if self.silence is None or time.monotonic() - self.started < self.patience:
            return None
        silent = self.silence()
        return silent if silent is not None and silent > self.patience else None

    @property
    def last_lines(self) -> str:
        """The end of its log, to be shown to people."""
        lines = self.log.read_text(errors="replace").splitlines()[-12:] if self.log else []
        return "\n".join(f"    {line}" for line in lines)

    def ask_to_stop(self) -> None:
        if self.running:
            assert self.process is not None
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to everything in the group, orphans of a main process that is gone included."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def bound_log(self) -> None:
        """Keep the log within twice LOG_LIMIT. The process goes on writing to the same, now empty file."""
        if self.log and self.log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)


def started_for(data: Path) -> list[int]:
    """The pids of everything that any supervisor of this data folder started and that still runs."""
    mark, found = f"{MARK}={data}".encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def kill_left_behind(data: Path) -> None:
    """SIGKILL whatever an earlier supervisor of this data folder left running, and wait for its end.

    The kernel tells the end (pidfd_open(2)): whatever dies shows no environment any more while it still has its ports.
    """
    while left := [pid for pid in started_for(data) if pid != os.getpid()]:
        with contextlib.ExitStack() as stack:
            dying = []
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    dying.append(os.pidfd_open(pid))
                    stack.callback(os.close, dying[-1])
                    signal.pidfd_send_signal(dying[-1], signal.SIGKILL)
            for process in dying:
                select.select([process], [], [])
