"""The supervisor, on small real processes: what ends is started again, what hangs is killed, nothing stays behind."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labportal.processes import child as child_module
from labportal.processes.child import MARK, Child, kill_left_behind, started_for
from labportal.processes.supervisor import Supervisor

LIVES = "import time\nwhile True: time.sleep(60)"
IGNORES_TERM = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\nwhile True: time.sleep(60)"
LISTENS_WITH_MUCH_MEMORY = (
    "import socket, time\nmuch = b'x' * 400_000_000\nserver = socket.create_server(('127.0.0.1', 0))\n"
    "print('port', server.getsockname()[1], flush=True)\nwhile True: time.sleep(60)"
)
LEAVES_A_CHILD = (
    "import subprocess, sys, time\nprint(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)\nwhile True: time.sleep(60)"
)


class World:
    def __init__(self, data: Path) -> None:
        self.data, self.lines = data, list[str]()
        self.supervisor = Supervisor(self.lines.append)

    def child(self, source: str, name: str = "worker", **more: object) -> Child:
        environment = os.environ | {MARK: str(self.data)}
        return Child(name, [sys.executable, "-c", source], self.data / f"{name}.log", environment, **more)  # type: ignore[arg-type]

    def start(self, source: str, name: str = "worker", **more: object) -> Child:
        child = self.child(source, name, **more)
        self.supervisor.start(child)
        return child

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        assert self.supervisor.watch(seconds, until=condition), self.lines


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.supervisor.hurry()
    world.supervisor.stop()
    left = started_for(tmp_path)
    kill_left_behind(tmp_path)
    assert left == []


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_what_ends_is_started_again_and_told(world: World) -> None:
    child = world.start(LIVES)
    first = pid_of(child)
    os.kill(first, signal.SIGKILL)
    world.until(lambda: child.running and pid_of(child) != first)
    assert "worker killed by SIGKILL" in world.lines[0]
    assert str(child.log) in world.lines[0]


def test_the_pause_before_a_restart_doubles_up_to_a_limit(world: World) -> None:
    child, pauses = world.child("raise SystemExit(3)"), []
    for _ in range(9):
        child.start()
        assert child.process is not None
        child.process.wait()
        assert child.ended() == "ended with status 3"
        pauses.append(round(child.due - time.monotonic(), 1))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_what_shows_no_sign_of_life_is_killed_and_started_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labportal.processes.supervisor.LIFE_EVERY", 0.1)
    silent = [True]
    child = world.start(LIVES, silence=lambda: 99.0 if silent[0] else 0.0, patience=0.5)
    first = pid_of(child)
    world.until(lambda: any("no sign of life for 99 s" in line for line in world.lines))
    silent[0] = False
    world.until(lambda: child.running and pid_of(child) != first)


def test_not_knowing_is_no_reason_to_kill(world: World) -> None:
    child = world.child(LIVES, silence=lambda: None, patience=0)
    child.start()
    assert child.stuck() is None
    child.kill()


def test_stop_asks_only_the_main_process_and_kills_the_rest_of_the_group(world: World) -> None:
    child = world.start(LEAVES_A_CHILD)
    world.until(lambda: child.log.read_text().count("\n") == 2)
    grandchild = int(child.log.read_text().split()[-1])
    world.supervisor.stop()
    world.until(lambda: gone(grandchild))


def test_orphans_of_a_killed_main_process_do_not_go_on(world: World) -> None:
    child = world.start(LEAVES_A_CHILD)
    world.until(lambda: child.log.read_text().count("\n") == 2)
    grandchild = int(child.log.read_text().split()[-1])
    os.kill(pid_of(child), signal.SIGKILL)
    world.until(lambda: gone(grandchild))


def test_what_ignores_sigterm_is_killed_after_its_grace(world: World) -> None:
    child = world.start(IGNORES_TERM, grace=0.3)
    world.until(lambda: "deaf" in child.log.read_text())
    pid = pid_of(child)
    world.supervisor.stop()
    assert gone(pid)


def test_hurry_does_not_wait_for_the_grace(world: World) -> None:
    child = world.start(IGNORES_TERM, grace=600)
    world.until(lambda: "deaf" in child.log.read_text())
    world.supervisor.hurry()
    began = time.monotonic()
    world.supervisor.stop()
    assert time.monotonic() - began < 60


def test_a_stopped_process_is_not_started_again(world: World) -> None:
    world.start(LIVES, "web")
    worker = world.start(LIVES, "worker")
    world.supervisor.stop("worker")
    assert not world.supervisor.watch(0.5, until=lambda: worker.running)


def test_what_a_killed_supervisor_left_is_found_by_its_mark(world: World, tmp_path: Path) -> None:
    child = world.child(LIVES)
    child.start()
    other = Child("other", child.argv, tmp_path / "other.log", os.environ | {MARK: str(tmp_path / "elsewhere")})
    other.start()
    kill_left_behind(tmp_path)
    assert (child.running, other.running) == (False, True)
    other.kill()


def test_a_port_is_free_once_whoever_had_it_is_killed(world: World, tmp_path: Path) -> None:
    """Whoever has much memory to give back keeps its sockets until that is done."""
    child = world.start(LISTENS_WITH_MUCH_MEMORY)
    world.until(lambda: "port" in child.log.read_text())
    kill_left_behind(tmp_path)
    socket.create_server(("127.0.0.1", int(child.log.read_text().split()[-1]))).close()


def test_a_log_stays_within_its_limit_and_is_written_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LOG_LIMIT", 1000)
    child = world.start(
        "import sys\nfor line in sys.stdin: pass\nprint('x' * 2000, flush=True)\nimport time\nwhile True: time.sleep(.1); print('more', flush=True)"
    )
    world.until(lambda: child.log.stat().st_size > 1000)
    child.bound_log()
    assert child.log.stat().st_size < 1000
    assert "x" * 2000 in child.log.with_name("worker.log.1").read_text()
    world.until(lambda: "more" in child.log.read_text())
