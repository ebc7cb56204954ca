"""Bad days of the processes, with simulated machines: whatever is killed, nothing is lost and nothing done twice."""

import os
import signal
import stat
from collections.abc import Iterator

import pytest

from tests.e2e.portal import RunningPortal, until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(databases=[])]

SOON_RESUMED = {"PROVIDER_CALL_SECONDS": "20", "SLICE_SECONDS": "21", "WORKER_TIMEOUT_SECONDS": "22", "LEASE_SECONDS": "23", "QUEUE_RETRY_SECONDS": "60"}

MAKE = """
from machines.models import Template
from machines.services.requests import create_machine
template = Template.objects.order_by("pk").first()
for number in range({count}):
    create_machine(acting_user=None, template=template, name=f"{name}-{{number}}", cores=1, memory_mib=128)
"""
POWER = """
from machines.models import Machine
from machines.services import requests
for machine in Machine.objects.filter(name__startswith="{name}"):
    requests.{verb}(machine, acting_user=None)
"""
ON_THE_CLUSTER = """
from machines.models import Cluster
from machines.services.gateway import provider_for
for machine in provider_for(Cluster.objects.get()).inventory().machines:
    print(machine.identity and machine.identity.name, machine.power)
"""


@pytest.fixture(scope="module")
def portal() -> Iterator[RunningPortal]:
    portal = RunningPortal("--simulator", "--no-demo", settings=SOON_RESUMED)
    portal.start()
    yield portal
    portal.clear()


def all_are(portal: RunningPortal, state: str, count: int, like: str) -> bool:
    states = portal.states(like)
    return len(states) == count and set(states.values()) == {state}


def on_the_cluster(portal: RunningPortal, name: str) -> list[str]:
    return sorted(line for line in portal.shell(ON_THE_CLUSTER).splitlines() if line.startswith(name))


def test_a_worker_killed_in_the_middle_of_clones_loses_none_and_makes_none_twice(portal: RunningPortal) -> None:
    portal.shell(MAKE.format(count=12, name="clone"))
    until(lambda: portal.rows("SELECT 1 FROM machines_operation WHERE state IN ('running', 'waiting')"), 30, "clones are under way")
    for pid in portal.processes("qcluster"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: all_are(portal, "stopped", 12, "clone-%"), 180, "all twelve are made")
    assert len(on_the_cluster(portal, "clone-")) == 12
    assert portal.rows("SELECT DISTINCT state FROM machines_operation") == [("succeeded",)]
    assert "worker killed by SIGKILL" in portal.said()


def test_a_worker_that_stands_still_is_killed_and_its_work_goes_on(portal: RunningPortal) -> None:
    stopped = portal.processes("qcluster")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    portal.shell(MAKE.format(count=1, name="still"))
    until(lambda: "worker has shown no sign of life" in portal.said(), 120, "it is noticed")
    until(lambda: all_are(portal, "stopped", 1, "still-%"), 60, "the machine is made")
    assert not set(stopped) & set(portal.processes("qcluster"))


def test_a_web_process_that_is_killed_comes_back(portal: RunningPortal) -> None:
    (web,) = portal.processes("manage.py web")
    os.kill(web, signal.SIGKILL)
    until(lambda: portal.processes("manage.py web") not in ([], [web]), 30, "web is started again")
    assert "web killed by SIGKILL" in portal.said()


def test_a_watcher_that_is_killed_comes_back_and_sees(portal: RunningPortal) -> None:
    (watcher,) = portal.processes("manage.py watch")
    os.kill(watcher, signal.SIGKILL)
    portal.shell(MAKE.format(count=1, name="seen") + POWER.format(name="nothing", verb="start"))
    until(lambda: all_are(portal, "stopped", 1, "seen-%"), 90, "a machine is made")


def test_a_cluster_that_stops_and_starts_again_keeps_its_machines(portal: RunningPortal) -> None:
    portal.shell(MAKE.format(count=2, name="kept"))
    until(lambda: all_are(portal, "stopped", 2, "kept-%"), 90, "two machines are made")
    (simulator,) = portal.processes("machines.providers.simulator")
    os.kill(simulator, signal.SIGKILL)
    portal.shell(POWER.format(name="kept-", verb="start"))
    until(lambda: all_are(portal, "running", 2, "kept-%"), 120, "both are on")
    assert on_the_cluster(portal, "kept-") == ["kept-0 on", "kept-1 on"]


def test_a_killed_supervisor_leaves_nothing_that_the_next_start_does_not_clear_away(portal: RunningPortal) -> None:
    portal.shell(MAKE.format(count=8, name="later"))
    portal.send(signal.SIGKILL)
    assert portal.process is not None
    portal.process.wait()
    left = portal.processes("manage.py")
    portal.start()
    assert left
    assert not set(left) & set(portal.processes("manage.py"))
    until(lambda: all_are(portal, "stopped", 8, "later-%"), 180, "what was asked for before is done")
    assert len(on_the_cluster(portal, "later-")) == 8


def test_what_is_secret_is_readable_by_its_owner_alone(portal: RunningPortal) -> None:
    for name in ("env", "labportal.sqlite3", "log"):
        assert not stat.S_IMODE((portal.data / name).stat().st_mode) & 0o077, name


def test_a_second_start_on_the_same_folder_is_refused_and_does_no_harm(portal: RunningPortal) -> None:
    second = RunningPortal("--simulator", "--no-demo")
    second.data = portal.data
    second.launch()
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert "runs already with the data in" in second.said()
    assert portal.processes("manage.py web")


def test_the_check_walks_the_main_job_and_cleans_up() -> None:
    check = RunningPortal("--simulator", "--no-demo", "--check")
    try:
        check.launch()
        assert check.process is not None
        assert check.process.wait(240) == 0, check.report()
        assert "The check passed." in check.said()
        assert check.processes("") == []
    finally:
        check.clear()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_nothing(portal: RunningPortal, number: int) -> None:
    if portal.ended:
        portal.start()
    assert portal.stop(number) == 0
    assert portal.processes("") == []
    assert not (portal.data / "run" / "simulator.sock").exists()
