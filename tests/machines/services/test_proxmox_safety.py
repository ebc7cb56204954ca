"""Nothing of others is touched on Proxmox VE, nothing is made twice and nothing is lost: the portal itself against a fake
cluster, with a worker and a watcher that know nothing of each other."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from machines.lifecycle import State
from machines.models import BurnedRef, Cluster, Machine, Operation, OperationState
from machines.providers.errors import ProviderError
from machines.providers.proxmox import ProxmoxProvider
from machines.providers.types import ProviderSettings
from machines.services import adoption, executor, requests, sweep, waiting
from tests.factories import make_user
from tests.machines.providers.lab import until
from tests.proxmox.fake.scene import POOL_PRIVILEGES
from tests.proxmox.running import RunningCluster

pytest.importorskip("fakepve")
pytestmark = pytest.mark.django_db

ROUNDS = 100
CLONE = "/nodes/{node}/qemu/{vmid}/clone"
TOKEN = "labportal@pve!portal"


@pytest.fixture
def carry_on(row: Cluster):
    """Work and watch, two seconds at a step, until an operation ends or it is as is waited for."""
    watcher = ProxmoxProvider(ProviderSettings(row.name, settings.PORTAL_ID, row.config, row.secret))

    def run(operation: Operation, so: Callable[[], bool] = lambda: False) -> Operation:
        with time_machine.travel(timezone.now()) as clock:
            for _ in range(ROUNDS):
                executor.drain()
                operation.refresh_from_db()
                if not operation.is_active or so():
                    operation.machine.refresh_from_db()
                    return operation
                with suppress(ProviderError):
                    waiting.poll(row, watcher)
                sweep.sweep()
                clock.shift(2)
        return pytest.fail(f"not so after {ROUNDS} rounds: {operation.state} {operation.message} {operation.detail}")

    yield run
    watcher.close()


def new(row: Cluster, ref: str = "9000", **more: object) -> tuple[Machine, Operation]:
    machine = requests.create_machine(acting_user=None, template=row.templates.get(ref=ref), name="web-1", cores=1, memory_mib=64, **more)
    return machine, machine.operations.get()


def made(row: Cluster, carry_on: Callable[..., Operation], **more: object) -> Machine:
    machine, operation = new(row, **more)
    assert carry_on(operation).state == OperationState.SUCCEEDED, operation.message
    machine.refresh_from_db()
    return machine


def of_ours(pve: RunningCluster, machine: Machine) -> list[int]:
    return [guest["vmid"] for guest in pve.control.guests() if guest["name"].endswith(str(machine.key)[:8])]


# -- one machine, and not two ----------------------------------------------------------------------


def test_a_clone_in_doubt_whose_node_does_not_answer_is_looked_after(pve, row, carry_on):
    pve.control.settings(time_scale=0.02, durations={"qmclone": 100})
    pve.control.fault("POST", CLONE, done=True, status=596)
    pve.control.fault("GET", "/nodes/{node}/tasks", status=596, times=12)
    machine, operation = new(row)
    carry_on(operation, so=lambda: "still making" in operation.message)
    assert not BurnedRef.objects.exists()
    until(lambda: not pve.control.guest(100_000)["lock"], 10, "the clone is finished")
    assert carry_on(operation).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert of_ours(pve, machine) == [int(machine.ref)]


def test_a_clone_in_doubt_that_cannot_be_seen_is_not_made_again(pve, row, carry_on):
    pve.control.settings(time_scale=0.02, durations={"qmclone": 100})
    pve.control.fault("POST", CLONE, done=True, status=596)
    machine, operation = new(row)
    carry_on(operation, so=lambda: operation.code == "outcome_unknown")
    pve.control.node("pve1", online=False)
    carry_on(operation, so=lambda: "may be this machine" in operation.message)
    assert not BurnedRef.objects.exists()
    pve.control.node("pve1", online=True)
    until(lambda: not pve.control.guest(100_000)["lock"], 10, "the clone is finished")
    assert carry_on(operation).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert of_ours(pve, machine) == [int(machine.ref)]


@pytest.mark.parametrize("trouble", [{}, {"status": 500, "message": "got no worker upid - start worker failed"}])
def test_a_number_of_what_cannot_be_seen_is_left_alone_where_nothing_was_asked_for_under_it(pve, row, carry_on, trouble):
    first, *_ = row.config["vmids"]
    if trouble:
        pve.control.fault("POST", CLONE, **trouble)
    machine, operation = new(row)
    if trouble:
        carry_on(operation, so=lambda: operation.code == "overloaded")
    pve.control.add_vm(first, "payroll")
    assert carry_on(operation).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert machine.ref != str(first) and of_ours(pve, machine) == [int(machine.ref)]
    assert pve.control.guest(first)["name"] == "payroll"


# -- and not none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [requests.destroy, adoption.release])
def test_a_machine_that_may_not_be_seen_any_more_is_not_taken_for_gone(pve, row, carry_on, verb):
    machine = made(row, carry_on)
    pve.control.revoke(TOKEN, "/pool/labs")
    if verb is adoption.release:
        Machine.objects.update(adopted=True)
        machine.refresh_from_db()
    operation = carry_on(verb(machine, acting_user=None))
    machine.refresh_from_db()
    assert (operation.state, operation.code, machine.state) == (OperationState.FAILED, "unseen", State.FAILED)
    assert f"VM.Audit on /vms/{machine.ref}" in machine.problem and machine.password
    assert of_ours(pve, machine) == [int(machine.ref)]
    pve.control.grant(TOKEN, "/pool/labs", POOL_PRIVILEGES)
    assert carry_on(verb(machine, acting_user=None)).machine.state == State.DESTROYED
    assert bool(of_ours(pve, machine)) is (verb is adoption.release)


def test_disks_that_a_removal_may_have_left_are_on_the_page_of_the_cluster(pve, row, carry_on, client):
    machine = made(row, carry_on)
    disk = pve.control.guest(int(machine.ref))["config"]["scsi0"].partition(",")[0]
    pve.control.task_fault("qmdestroy", "WARNINGS: 1")
    pve.control.settings(time_scale=0.02)
    assert carry_on(requests.destroy(machine, acting_user=None)).machine.state == State.DESTROYED
    client.force_login(make_user("sam", role="staff"))
    assert disk in client.get(f"/admin/machines/cluster/{row.pk}/change/").content.decode()


def test_a_lock_that_nobody_holds_any_more_is_told_at_once(pve, row, carry_on):
    machine = made(row, carry_on)
    pve.control.change_guest(int(machine.ref), lock="snapshot")
    operation = carry_on(requests.start(machine, acting_user=None))
    assert (operation.state, operation.code) == (OperationState.FAILED, "locked")
    assert operation.finished_at and (operation.finished_at - operation.created_at).total_seconds() < 30
    assert f"qm unlock {machine.ref}" in operation.message
