"""Bad days of a Proxmox VE cluster in the middle of a class: the portal itself against a fake cluster."""

from collections.abc import Callable

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Cluster, Machine, MachineRequest, Operation, RequestState, Tier
from machines.providers.errors import ProviderError
from machines.services import approvals, executor, gateway, inventory, requests, sweep, waiting
from tests.factories import make_request, make_user
from tests.proxmox.running import RunningCluster

pytest.importorskip("fakepve")
pytestmark = pytest.mark.django_db

ROUNDS = 60
LOCAL, SHARED = "9000", "9001"


@pytest.fixture
def row(row):
    """One machine is made at a time, so that a day goes bad in the middle of a class."""
    Cluster.objects.update(limit_create=1)
    row.refresh_from_db()
    return row


def a_class(row: Cluster, count: int, ref: str = SHARED) -> list[Machine]:
    template = row.templates.get(ref=ref)
    return [requests.create_machine(acting_user=None, template=template, name=f"web-{number}", cores=1, memory_mib=64, start=True) for number in range(count)]


def work(row: Cluster, until: Callable[[], bool]) -> None:
    """Workers and the watcher, in time that goes by ten seconds at a step."""
    row.refresh_from_db()
    with time_machine.travel(timezone.now()) as clock:
        for _ in range(ROUNDS):
            if until():
                return
            executor.drain()
            try:
                provider = gateway.provider_for(row)
                waiting.poll(row, provider)
                inventory.look(row, provider)
            except ProviderError as error:
                inventory.note_trouble(row, error)
            sweep.sweep()
            clock.shift(10)
    pytest.fail(f"not so after {ROUNDS} rounds: {list(Operation.objects.values_list('state', 'message', 'detail'))}")


def on() -> int:
    return Machine.objects.filter(state=State.RUNNING).count()


def on_the_cluster(pve: RunningCluster) -> list[int]:
    return [guest["vmid"] for guest in pve.control.guests() if guest["vmid"] >= 100_000]


def test_a_node_that_goes_off_in_the_middle_of_a_class_is_waited_for(pve, row):
    a_class(row, 4, LOCAL)
    work(row, lambda: on() >= 1)
    pve.control.node("pve1", online=False)
    work(row, lambda: Operation.objects.filter(message__contains="pve1 of the cluster does not answer").exists())
    pve.control.node("pve1", online=True)
    work(row, lambda: on() == 4)
    assert len(on_the_cluster(pve)) == 4


def test_a_token_revoked_in_the_middle_of_a_class_is_told_and_a_new_one_goes_on(pve, row):
    a_class(row, 4)
    work(row, lambda: on() >= 1)
    pve.control.revoke_token(token=f"{pve.user}!{pve.token_name}")
    work(row, lambda: not Cluster.objects.get().reachable)
    assert Cluster.objects.get().problem and pve.token_secret not in Cluster.objects.get().problem
    secret = pve.control.add_token(pve.user, pve.token_name)
    Cluster.objects.update(secret=secret)
    assert Cluster.objects.get().secret == secret
    for machine in Machine.objects.filter(state=State.FAILED):
        requests.retry(machine, acting_user=None)
    work(row, lambda: on() == 4)
    assert len(on_the_cluster(pve)) == 4 and Cluster.objects.get().reachable


def test_an_endpoint_that_goes_down_in_the_middle_of_a_class_is_not_noticed(pve, row):
    a_class(row, 4)
    work(row, lambda: on() >= 1)
    pve.control.endpoint(0, up=False)
    work(row, lambda: on() == 4)
    assert len(on_the_cluster(pve)) == 4 and not Operation.objects.filter(state="failed").exists()


def test_a_full_storage_returns_the_request_to_the_queue_and_one_machine_is_made_in_the_end(pve, row):
    ada, sam = make_user("ada"), make_user("sam", role="staff")
    request = make_request(ada, template=row.templates.get(ref=LOCAL), tier=Tier.objects.get(name="Silver"))
    pve.control.storage("local-lvm", avail=0)
    approvals.approve(request, acting_user=sam)
    work(row, lambda: MachineRequest.objects.get().state == RequestState.FAILED)
    assert "room" in MachineRequest.objects.get().problem or "full" in MachineRequest.objects.get().problem
    pve.control.storage("local-lvm", avail=900 << 30)
    approvals.approve(MachineRequest.objects.get(), acting_user=sam)
    work(row, lambda: MachineRequest.objects.get().state == RequestState.READY)
    assert len(on_the_cluster(pve)) == 1 and on() == 1
