"""The simulator as a process: its socket, its file, its end, and many machines at once."""

import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from machines.providers.errors import ProviderError
from machines.providers.simulator import FaultKind, SimulatorControl, SimulatorProvider
from machines.providers.types import Power, Presence, ProviderSettings, Stage, TaskState
from tests.machines.providers.lab import until

from .machines import identity, running, settle, spec
from .running import PORTAL, Simulated, simulator

ROOT = Path(__file__).parents[4]


def provider_at(socket: Path) -> SimulatorProvider:
    return SimulatorProvider(ProviderSettings("simulated", PORTAL, {"socket": str(socket)}))


def command(socket: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "machines.providers.simulator", "--socket", str(socket), *options]


@contextmanager
def process(socket: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command(socket, *options), cwd=ROOT, stderr=subprocess.DEVNULL) as child:
        provider = provider_at(socket)
        try:
            until(lambda: provider.inventory() is not None, 20, "the simulator answers", ProviderError)
            yield child
        finally:
            provider.close()
            child.kill()


@pytest.mark.processes
def test_only_its_user_may_talk_to_it_and_it_goes_cleanly(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    with process(socket) as child:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        second = subprocess.run(command(socket), cwd=ROOT, capture_output=True, timeout=20, check=False)
        assert second.returncode == 1
        assert b"already" in second.stderr
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert not socket.exists()


@pytest.mark.processes
def test_killed_and_started_again_it_finds_its_machines(tmp_path: Path) -> None:
    socket, options = tmp_path / "socket", ("--state", str(tmp_path / "state"), "--time-scale", "0.02")
    unfinished = identity("unfinished")
    with process(socket, *options) as child:
        provider = provider_at(socket)
        made = running(provider)
        settle(provider, provider.begin_snapshot(made, made.key, "kept"))
        gone = running(provider, "gone")
        settle(provider, provider.begin_destroy(gone, gone.key))
        task = provider.begin_create(unfinished, unfinished.key, spec(linked=False))
        before = provider.find(made, made.key)
        child.kill()
        child.wait(10)
        provider.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600
    with process(socket, *options):
        provider = provider_at(socket)
        assert provider.find(made, made.key) == before
        assert provider.find(made, made.key).power is Power.ON
        assert [snapshot.name for snapshot in provider.snapshots(made, made.key)] == ["kept"]
        assert provider.find(gone, gone.key).presence is Presence.ABSENT
        assert provider.find(unfinished, unfinished.key).stage is Stage.BROKEN
        assert provider.poll([task])[task].state is TaskState.LOST
        assert provider.inventory().machines[0].endpoints
        provider.close()


@pytest.mark.processes
def test_a_host_that_is_shut_down_takes_its_machines_along(tmp_path: Path) -> None:
    socket, options = tmp_path / "socket", ("--state", str(tmp_path / "state"), "--time-scale", "0.02")
    with process(socket, *options) as child:
        provider = provider_at(socket)
        made = running(provider)
        provider.close()
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    with process(socket, *options):
        provider = provider_at(socket)
        assert provider.find(made, made.key).power is Power.OFF
        provider.close()


def test_several_callers_at_once_are_answered_each_for_itself(simulated: Simulated) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        provider = simulated.provider()
        for each in range(20):
            made = identity(f"web-{number}-{each}")
            end = settle(provider, provider.begin_create(made, made.key, spec()))
            if end.state is not TaskState.SUCCEEDED or provider.find(made, made.key).presence is not Presence.OURS:
                failures.append(made.name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert simulated.control.figures()["machines"] == 80


def test_a_waiting_watcher_does_not_hold_up_others(simulated: Simulated) -> None:
    provider, watcher = simulated.provider(), simulated.provider()
    watcher.inventory()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(watcher.wait_for_change(20)))
    thread.start()
    made = identity()
    settle(provider, provider.begin_create(made, made.key, spec()))
    thread.join(5)
    assert answers == [True]


def test_five_hundred_machines_that_are_on_are_cheap() -> None:
    with simulator(parallel=500) as large:
        provider = large.provider()
        before = psutil.Process().memory_info().rss
        machines = [identity(f"web-{number}") for number in range(500)]
        for begin in (lambda made: provider.begin_create(made, made.key, spec()), lambda made: provider.begin_start(made, made.key)):
            tasks = [begin(made) for made in machines]
            until(lambda tasks=tasks: all(status.state is TaskState.SUCCEEDED for status in provider.poll(tasks).values()), 30, "all are done")
        lines = provider.inventory().machines
        assert len({endpoint.port for line in lines for endpoint in line.endpoints}) == 500
        assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_control_survives_what_it_does_to_others(simulated: Simulated) -> None:
    simulated.control.fault(FaultKind.UNREACHABLE)
    second = SimulatorControl(simulated.socket)
    second.mend()
    second.close()
    assert simulated.provider().check()[0].ok
