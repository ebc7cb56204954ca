"""The limits of a cluster hold on Proxmox VE: the portal itself against a fake cluster."""

import itertools

import pytest

from machines.models import Cluster, Machine, Operation, OperationState
from machines.providers.proxmox import client as client_module
from machines.providers.proxmox import label
from machines.providers.proxmox.breakers import Breakers
from machines.services import catalog, executor, gateway, requests
from tests.factories import make_cluster, make_machine
from tests.proxmox.running import RunningCluster, running_cluster

pytest.importorskip("fakepve")
pytestmark = pytest.mark.django_db

FOREVER = 100_000  # of the cluster's seconds
OS_TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
numbers = itertools.count(120_000, 1000)


@pytest.fixture(scope="module")
def pve():
    with running_cluster() as pve:
        pve.control.settings(lag=0, durations={"qmclone": FOREVER, "vzclone": FOREVER, "vzcreate": FOREVER})
        pve.control.add_vm(9002, "copy", node="pve2", template=True, config={"scsi0": "local-lvm:base-9002-disk-0,size=8G"}, pool="labs")
        for who in ("labportal@pve", "labportal@pve!portal"):
            pve.control.grant(who, "/vms/9002", ["VM.Clone", "VM.Audit"])
        yield pve


@pytest.fixture
def connect(pve: RunningCluster, monkeypatch):
    """A cluster that bears as much as a row of Proxmox VE does by default."""
    monkeypatch.setattr(client_module, "shared_breakers", Breakers())

    def connect(*, config: dict[str, object] | None = None, **limits: int) -> Cluster:
        bears = {"limit_create": 20, "limit_per_template": 20, "limit_create_per_node": 2, "limit_create_per_storage": 2, **limits}
        given = pve.config(vmids=[next(numbers), 199_999], **(config or {}))
        row = make_cluster("rack", kind="proxmox", config=given, secret=pve.token_secret, **bears)
        catalog.sync_templates(row)
        return row

    yield connect
    gateway.close_providers()


def ask_for(row: Cluster, *refs: str) -> list[Machine]:
    return [requests.create_machine(acting_user=None, template=row.templates.get(ref=ref), name="web", cores=1, memory_mib=64) for ref in refs]


def under_way() -> list[str]:
    """The templates of what is being made now."""
    executor.drain(5)
    return sorted(Operation.objects.filter(state=OperationState.WAITING).values_list("machine__template__ref", flat=True))


def test_two_clones_at_once_on_one_node(connect):
    row = connect(limit_create_per_storage=9)
    ask_for(row, "9000", "9001", "9000", "9001")
    assert under_way() == ["9000", "9001"]


def test_two_clones_at_once_on_one_storage(connect):
    row = connect(limit_create_per_node=9)
    ask_for(row, "9000", "9000", "9000", "9001", "9001", "9001")
    assert under_way() == ["9000", "9000", "9001", "9001"]


def test_a_template_with_copies_is_cloned_on_each_of_their_nodes(connect):
    row = connect(config={"template_copies": {"9000": [9002]}})
    ask_for(row, *["9000"] * 6)
    assert row.templates.get(ref="9000").node == "pve1 + pve2"
    assert under_way() == ["9000"] * 4


def test_containers_are_cloned_one_by_one_and_made_of_an_os_template_at_once(connect):
    row = connect()
    ask_for(row, "9100", "9100", OS_TEMPLATE, OS_TEMPLATE, OS_TEMPLATE)
    assert under_way() == ["9100", *[OS_TEMPLATE] * 3]


def test_what_is_known_of_a_cluster_is_not_forgotten_when_a_machine_is_adopted(connect):
    row = connect()
    provider = gateway.provider_for(row)
    Cluster.objects.update(adopted=["500"])
    row.refresh_from_db()
    assert gateway.provider_for(row) is provider and tuple(provider.adopted) == ("500",)


def test_a_machine_that_somebody_locked_takes_nothing_from_the_others(connect, pve: RunningCluster):
    row = connect()
    machine = make_machine(template=row.templates.get(ref="9000"), ref=str(next(numbers)))
    pve.control.add_vm(
        int(machine.ref), "web", pool="labs", config={"description": label.describe(gateway.identity(machine)), "scsi0": "local-lvm:vm-1-disk-0,size=8G"}
    )
    pve.control.hold_config_lock(int(machine.ref), FOREVER)
    operation = requests.resize(machine, acting_user=None, cores=2, memory_mib=512)
    executor.drain(5)
    operation.refresh_from_db()
    row.refresh_from_db()
    assert (operation.code, row.eased) == ("busy", {})
