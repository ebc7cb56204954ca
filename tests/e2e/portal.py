"""The product as a person starts it: `bin/up` as a process, with a data folder and a port of its own."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labportal.processes.child import MARK, kill_left_behind, started_for

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS_OF_TESTS = ("DJANGO_SETTINGS_MODULE", "SECRET_KEY", "FIELD_KEYS", "PORTAL_ID", "DATA_DIR", "DATABASE_URL", "EMAIL_URL", MARK)


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until the condition holds, and answer it. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return answer


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class RunningPortal:
    """Started by `start`, ended by `stop`; in between it can be hurt. Facts are read from its database, read-only."""

    def __init__(self, *options: str, settings: dict[str, str] | None = None) -> None:
        self.options, self._settings = options, settings or {}
        self.folder = Path(tempfile.mkdtemp(prefix="lt-up-"))  # short: Unix sockets in it have 108 characters
        self.folder.chmod(0o711)
        self.data = self.folder / "data"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.output = self.folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, seconds: float = 240) -> None:
        self.launch()
        try:
            until(lambda: "Ready in" in self.said() or self.ended, seconds, "bin/up is ready")
        except AssertionError:
            print(self.report())
            raise
        assert not self.ended, self.report()

    def launch(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS_OF_TESTS}
        command = [sys.executable, str(ROOT / "bin" / "up"), "--yes", "--port", str(self.port), "--data", str(self.data), *self.options]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment | self._settings, start_new_session=True
            )

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def said(self) -> str:
        return self.output.read_text()

    def report(self) -> str:
        logs = sorted((self.data / "log").glob("*.log"))
        return "\n".join([self.said(), *(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)])

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGINT, seconds: float = 90) -> int:
        """As Ctrl-C. Returns the exit status."""
        if self.process is None:
            return 0
        if not self.ended:
            self.send(number)
        return self.process.wait(seconds)

    def clear(self) -> None:
        """Stop, by force where need be, and remove the folder."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            assert self.process is not None
            self.process.kill()
            self.process.wait()
        kill_left_behind(self.data)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- looking in ------------------------------------------------------------------------

    @property
    def accounts(self) -> dict[str, dict[str, str]]:
        """The demo accounts by role."""
        return {account["role"]: account for account in json.loads((self.data / "demo.json").read_text())["accounts"]}

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(f"file:{self.data / 'labportal.sqlite3'}?mode=ro", uri=True, timeout=20)
        try:
            return database.execute(query, values).fetchall()
        finally:
            database.close()

    def states(self, like: str = "%") -> dict[str, str]:
        return dict(self.rows("SELECT name, state FROM machines_machine WHERE name LIKE ? AND state != 'destroyed'", like))

    def processes(self, words: str) -> list[int]:
        """The pids of its processes whose command line has these words; the main process first."""
        return [pid for pid in started_for(self.data) if words in command_line(pid)]

    def shell(self, code: str) -> str:
        """Run code in the portal's own Django, as a person with a shell on the server would."""
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS_OF_TESTS}
        environment |= self._settings | {"LABPORTAL_ENV_FILE": str(self.data / "env"), "DATA_DIR": str(self.data)}
        answer = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "shell", "-v0", "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()
