"""Real processes: a worker that is killed, a watcher that is asked to go, a cluster that goes and comes."""

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from labportal.sqlite.base import DatabaseWrapper
from machines.lifecycle import State
from machines.models import Cluster, Heartbeat, Machine, MachineRequest, Operation, OperationState, RequestMail, RequestState
from machines.providers.simulator import FaultKind, SimulatorControl
from machines.services import approvals, catalog, gateway, requests
from tests.factories import make_cluster, make_machine, make_request, make_user
from tests.machines.providers.lab import until

pytestmark = pytest.mark.processes


class Portal:
    """A database file that other processes see too, a simulator, and the processes started on them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.socket = folder / "simulator.sock"
        self.database = folder / "portal.sqlite3"

    def run(self, *argv: str) -> psutil.Process:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.machines.quick_settings",
            "TEST_DATABASE_URL": f"sqlite:///{self.database}",
            "DATA_DIR": str(self.folder),
        }
        log = self._stack.enter_context((self.folder / "log").open("ab"))
        process = psutil.Popen([sys.executable, *argv], env=environment, cwd=settings.BASE_DIR, stdout=log, stderr=log, start_new_session=True)
        self._stack.callback(kill_tree, process)
        return process

    def simulator(self, *options: str) -> psutil.Process:
        process = self.run("-m", "machines.providers.simulator", "--socket", str(self.socket), "--state", str(self.folder / "state"), *options)
        until(self.socket.exists, 20, "the simulator listens")
        return process

    def worker(self) -> psutil.Process:
        return self.run("manage.py", "qcluster")

    def watcher(self) -> psutil.Process:
        return self.run("manage.py", "watch")

    @property
    def control(self) -> SimulatorControl:
        control = SimulatorControl(self.socket)
        self._stack.callback(control.close)
        return control


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL to a process and all it started, at once: nobody can tidy up."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)


@pytest.fixture
def portal(tmp_path, django_db_blocker):
    own = connections["default"]
    with ExitStack() as stack, django_db_blocker.unblock():
        portal = Portal(tmp_path, stack)
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL; PRAGMA busy_timeout=20000;"}
        shared = {**own.settings_dict, "ENGINE": "labportal.sqlite", "NAME": str(portal.database), "OPTIONS": options, "CONN_MAX_AGE": 0}
        connections["default"] = DatabaseWrapper(shared, "default")
        stack.callback(gateway.close_providers)
        try:
            call_command("migrate", verbosity=0)
            yield portal
        finally:
            connections["default"].close()
            connections["default"] = own


@pytest.fixture
def cluster(portal) -> Cluster:
    portal.simulator("--create-seconds", "0.5", "--start-seconds", "0.5", "--boot-seconds", "0.3")
    cluster = make_cluster("lab", config={"socket": str(portal.socket)}, limit_create=10, limit_per_template=10, limit_power=10)
    catalog.sync_templates(cluster)
    return cluster


def new_machine(cluster: Cluster, name: str, **fields) -> Machine:
    return requests.create_machine(acting_user=None, template=cluster.templates.first(), name=name, cores=1, memory_mib=256, **fields)


def state_of(machine: Machine) -> State:
    machine.refresh_from_db()
    return State(machine.state)


def test_a_worker_killed_in_the_middle_leaves_one_machine_not_two_and_not_none(portal, cluster):
    portal.watcher()
    worker, control = portal.worker(), portal.control
    control.fault(FaultKind.SLOW, verb="create", seconds=1.5)
    machines = [new_machine(cluster, f"web-{number}", start=True) for number in range(4)]
    # One worker is inside the creating call, others before, behind or done with theirs.
    until(lambda: Operation.objects.filter(state=OperationState.RUNNING).exists(), 20, "a worker is at it")
    kill_tree(worker)
    control.mend()
    portal.worker()
    for machine in machines:
        until(lambda machine=machine: state_of(machine) == State.RUNNING, 40, f"{machine} is on")
    labels = [seen["identity"]["key"] for seen in control.machines()]
    assert sorted(labels) == sorted(str(machine.key) for machine in machines)
    assert set(Operation.objects.values_list("state", flat=True)) == {OperationState.SUCCEEDED}
    until(lambda: Machine.objects.filter(answering_since=None).count() == 0, 20, "their guests have booted")
    until(lambda: Heartbeat.objects.filter(name="worker").exists(), 20, "the worker shows life")


def test_what_was_asked_for_and_approved_is_made_and_mailed(portal, cluster):
    portal.watcher()
    portal.worker()
    request = make_request(make_user("ada"), template=cluster.templates.first())
    machine = approvals.approve(request, acting_user=make_user("sam", role="staff"))
    until(lambda: MachineRequest.objects.get().state == RequestState.READY, 30, "the request is ready")
    assert state_of(machine) == State.RUNNING
    assert [seen["identity"]["key"] for seen in portal.control.machines()] == [str(machine.key)]
    until(lambda: RequestMail.objects.exclude(sent_at=None).count() == 2, 20, "both mails are sent")


def test_what_happens_behind_our_back_is_known_within_two_seconds(portal, cluster):
    portal.watcher()
    portal.worker()
    machine = new_machine(cluster, "web-1", start=True)
    until(lambda: state_of(machine) == State.RUNNING, 30, "it is on")
    portal.control.power_off(machine.ref)
    began = time.monotonic()
    until(lambda: state_of(machine) == State.STOPPED, 10, "the row says off")
    assert time.monotonic() - began < 2
    portal.control.power_on(machine.ref)
    began = time.monotonic()
    until(lambda: state_of(machine) == State.RUNNING, 10, "the row says on")
    assert time.monotonic() - began < 2


def test_a_cluster_that_goes_and_comes_holds_up_no_other_and_loses_nothing(portal, cluster):
    portal.watcher()
    portal.worker()
    dead = make_cluster("dead", config={"socket": str(portal.folder / "nobody.sock")})
    stuck = [requests.start(make_machine(cluster=dead), acting_user=None) for _ in range(6)]
    until(lambda: not Cluster.objects.get(pk=dead.pk).reachable, 20, "the dead cluster is known to be dead")
    machine = new_machine(cluster, "web-1", start=True)
    began = time.monotonic()
    until(lambda: state_of(machine) == State.RUNNING, 30, "a machine on the living one is on")
    assert time.monotonic() - began < 10
    assert {operation.state for operation in Operation.objects.filter(pk__in=[one.pk for one in stuck])} <= {OperationState.QUEUED, OperationState.RUNNING}


def test_a_watcher_asked_to_go_goes_soon_and_another_takes_over(portal, cluster):
    first = portal.watcher()
    until(lambda: Cluster.objects.get().watcher, 20, "the first leads")
    token = Cluster.objects.get().watcher
    portal.watcher()
    first.send_signal(signal.SIGTERM)
    assert first.wait(5) == 0
    until(lambda: Cluster.objects.get().watcher not in ("", token), 10, "the second leads")
