"""The crash matrix on a Proxmox VE cluster (a fake one): whatever is written through its API, the worker dies before
or after it, or the connection breaks before or after it was done."""

import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import Kind, State
from machines.models import Machine, Operation, OperationState
from machines.providers.proxmox import client as client_module
from machines.providers.proxmox import label
from machines.providers.proxmox.breakers import Breakers
from machines.providers.proxmox.snapshots import BASELINE, own_name
from machines.providers.proxmox.transport import Answer, Transport
from machines.providers.types import Power
from machines.services import gateway
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.proxmox.running import RunningCluster, running_cluster

from .crashing import CASES, MODES, Case, Fault, Scene, Seen, check, deliver, strike_everywhere

pytest.importorskip("fakepve")
pytestmark = pytest.mark.django_db

CLONES = ("qmclone", "vzclone", "vzcreate")
TOUCHED = "onboot"  # what stands for something that was done in a machine
numbers = itertools.count(100_000, 10)


@dataclass(frozen=True)
class Sort:
    name: str
    kind: str
    template: str
    bare: str = ""  # a template whose storage keeps no snapshots
    seeded: bool = True

    def __str__(self) -> str:
        return self.name


VM = Sort("vm", "vm", "9000", "9002")
CONTAINER = Sort("container", "container", "9100", "9101", seeded=False)
FROM_OS_TEMPLATE = Sort("container-from-os-template", "container", "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst")


@pytest.fixture(scope="module")
def pve():
    with running_cluster(time_scale=0) as pve:
        for kind, add in (("vm", pve.control.add_vm), ("container", pve.control.add_ct)):
            add(vmid=200 + len(kind), name="payroll", node="pve1", status="running", pool=pve.pool, config={"description": "Call Ada first."})
        _bare_machine_template(pve)
        for storage in ("local-lvm", "thick", "dirs"):  # what is cleared away behind its back takes its room with it
            pve.control.storage(storage, avail=1 << 60, total=1 << 60)
        yield pve


def _bare_machine_template(pve: RunningCluster) -> None:
    """As 9000, on a storage that keeps no snapshots."""
    control, gib = pve.control, 1 << 30
    control.storage("thick", type="lvm", content="images", shared=0, avail=900 * gib, total=1000 * gib)
    disks = {"scsi0": f"thick:base-{VM.bare}-disk-0,size=8G", "ide2": f"thick:vm-{VM.bare}-cloudinit,media=cdrom"}
    control.add_vm(int(VM.bare), "debian-12-thick", template=True, config=control.guest(int(VM.template))["config"] | disks)
    for who in (pve.user, f"{pve.user}!{pve.token_name}"):
        control.grant(who, f"/vms/{VM.bare}", ["VM.Clone", "VM.Audit"])
        control.grant(who, "/storage/thick", ["Datastore.AllocateSpace", "Datastore.Audit"])


@dataclass
class Wire:
    """Lets a fault strike at every call that writes."""

    pve: RunningCluster
    fault: Fault | None = None
    ahead: Callable[[str], None] = lambda url: None  # what happens just before a call reaches the cluster

    def send(self, deed: Callable[[], Answer], method: str, url: str) -> Answer:
        if self.fault is None or method == "GET":
            return deed()
        if self.fault.mode != "crash" and self.fault.strikes():
            self.pve.control.fault(method, ".*", drop=True, done=self.fault.mode == "lost")
        if self.fault.mode == "crash":
            self.fault.boundary("before_call", url)
        self.ahead(url)
        answer = deed()
        if self.fault.mode == "crash":
            self.fault.boundary("after_call", url)
        return answer


@pytest.fixture
def wire(monkeypatch, pve):
    monkeypatch.setattr(client_module, "shared_breakers", Breakers())
    wire, request = Wire(pve), Transport.request
    monkeypatch.setattr(Transport, "request", lambda transport, method, url, **given: wire.send(lambda: request(transport, method, url, **given), method, url))
    yield wire
    gateway.close_providers()
    pve.control.clear_faults()


class PveScene(Scene):
    """With one of each sort that is somebody else's, and numbers of its own."""

    def __init__(self, pve: RunningCluster, sort: Sort, *, bare: bool = False) -> None:
        self.pve, self.sort, self.first = pve, sort, next(numbers)
        cluster = make_cluster(kind="proxmox", config=pve.config(vmids=[self.first, self.first + 9]), secret=pve.token_secret, stop_deadline=30)
        self.template = make_template(cluster, ref=sort.bare if bare else sort.template, kind=sort.kind, seeded=sort.seeded)
        pve.control.forget_tasks()
        super().__init__(cluster, self._look, self._as_wanted, crashed=gateway.close_providers)

    # -- what is there

    def _look(self) -> dict[str, Seen]:
        restarts = [task["id"] for task in self.pve.control.tasks() if task["type"] in ("qmreset", "qmreboot", "vzreboot")]
        return {str(guest["vmid"]): self._seen(guest, restarts.count(str(guest["vmid"]))) for guest in self.pve.control.guests()}

    def _seen(self, guest, restarts: int) -> Seen:
        config = dict(guest["config"])
        _portal, key = label.parse(config.get("description")) or ("", "")
        config["description"] = [line for line in str(config.get("description", "")).splitlines() if line.strip() and not line.startswith("labportal:")]
        own = tuple(name for name in map(own_name, guest["snapshots"]) if name)
        rest = {**guest, "config": config, "agent_requests": None}
        whole = not guest["lock"] and not guest["pending"] and bool(config.get("scsi0") or config.get("rootfs"))
        return Seen(key, Power.ON if guest["status"] == "running" else Power.OFF, whole, own, TOUCHED in config, restarts, rest)

    def _as_wanted(self, machine: Machine) -> bool:
        guest = self.pve.control.guest(int(machine.ref))
        config, keeps = guest["config"], self.template.ref == self.sort.template
        disk = config["scsi0"] if self.sort is VM else config["rootfs"]
        sizes = (int(config["cores"]), int(config["memory"])) == (machine.cores, machine.memory_mib)
        seeded = config.get("ciuser") == machine.username or self.sort is not VM
        return sizes and seeded and keeps == (BASELINE in guest["snapshots"]) and (machine.disk_gib is None or f"size={machine.disk_gib}G" in disk)

    def clones(self) -> int:
        return sum(task["type"] in CLONES for task in self.pve.control.tasks())

    # -- what is asked

    def set_out(self, case: Case) -> tuple[Machine, Operation]:
        match case.kind:
            case Kind.PROVISION:
                return self.create(case, self.template, cores=2, memory_mib=512, disk_gib=10)
            case Kind.ADOPT:
                return self.adopt(self.somebody_elses())
            case Kind.RELEASE:
                machine = self._adopted()
            case _:
                machine = self._made(case)
        return self.ask(case, machine)

    def somebody_elses(self) -> str:
        add = self.pve.control.add_vm if self.sort is VM else self.pve.control.add_ct
        number = self.first + 9
        disk = {"scsi0": f"local-lvm:vm-{number}-disk-0,size=8G"} if self.sort is VM else {"rootfs": f"local-lvm:vm-{number}-disk-0,size=8G"}
        add(vmid=number, name="old", node="pve2", status="running", pool=self.pve.pool, config={"description": "Belongs to Ada.", **disk})
        return str(number)

    def _adopted(self) -> Machine:
        machine = make_machine(template=self.template, ref=self.somebody_elses(), state=State.RUNNING, adopted=True, owner=make_user())
        gateway.provider_for(self.cluster).adopt(gateway.identity(machine), machine.ref, "old")
        return machine

    def _made(self, case: Case) -> Machine:
        """As the portal makes it, and used since."""
        number, student = str(self.first), make_user()
        machine = make_machine("web-07", template=self.template, ref=number, state=case.before, owner=student, cores=2, memory_mib=512)
        provider, place, spec = gateway.provider_for(self.cluster), (gateway.identity(machine), number), gateway.spec(machine)
        provider.begin_create(*place, spec)
        while provider.ensure_configured(*place, spec):
            pass
        if case.kind == Kind.DELETE_SNAPSHOT:
            provider.begin_snapshot(*place, "monday")
            machine.snapshots.create(name="monday", ready=True)
        if case.before == State.RUNNING:
            provider.begin_start(*place)
        settings_of_guest = {} if not case.deaf else {"acpi": False} if self.sort is VM else {"shutdown_secs": 10**6}
        self.pve.control.change_guest(self.first, config={TOUCHED: 1}, **settings_of_guest)
        self.pve.control.forget_tasks()
        gateway.close_providers()
        return machine

    def clear(self) -> None:
        for guest in self.pve.control.guests():
            if self.first <= guest["vmid"] < self.first + 10:
                self.pve.control.remove(guest["vmid"])


# One that is off first does less of the same.
WHOLE = [case for case in CASES if State.RUNNING in (case.before, case.after) or case.kind in (Kind.DELETE_SNAPSHOT, Kind.RESIZE)]
IN_PLACE = [case for case in WHOLE if case.before is not None and case.after != State.DESTROYED]
MAKING = [case for case in WHOLE if case.kind == Kind.PROVISION or case.bare]
ALIKE = (Kind.START, Kind.FORCE_OFF, Kind.SNAPSHOT, Kind.DELETE_SNAPSHOT)  # but for the path, VMs and containers
ROUNDS = [(case, mode, VM) for case in WHOLE for mode in MODES]
ROUNDS += [(case, mode, CONTAINER) for case in WHOLE for mode in ("crash", "lost") if case.kind not in ALIKE]
ROUNDS += [(WHOLE[0], mode, FROM_OS_TEMPLATE) for mode in ("crash", "lost")]


@pytest.fixture
def stage(pve, wire):
    """Sets out a case on a scene of its own, which is cleared away in the end."""

    @contextlib.contextmanager
    def stage(case, sort):
        scene = PveScene(pve, sort, bare=case.bare)
        try:
            yield scene, *scene.set_out(case)
        finally:
            wire.fault, wire.ahead = None, lambda url: None
            scene.clear()

    return stage


def is_right(case: Case, scene: PveScene, machine: Machine, operation: Operation) -> None:
    check(case, scene, machine, operation)
    assert scene.clones() == (case.kind == Kind.PROVISION or case.bare), "it was made more than once"
    assert not scene.pve.control.faults(), "the fault was not met"


@pytest.mark.parametrize(("case", "mode", "sort"), ROUNDS, ids=str)
def test_whatever_breaks_wherever_the_operation_ends_once_and_right(case, mode, sort, stage, wire):
    def run(fault, clock):
        with stage(case, sort) as (scene, machine, operation):
            wire.fault = fault
            deliver(scene, operation, clock)
            is_right(case, scene, machine, operation)

    assert strike_everywhere(mode, run) >= (2 if mode == "crash" else 1), "the matrix missed its boundaries"


@pytest.mark.parametrize("sort", [VM, CONTAINER], ids=str)
@pytest.mark.parametrize("case", MAKING, ids=str)
def test_where_the_cluster_takes_its_time_as_well(case, sort, stage, wire, pve):
    """Whoever goes on finds the machine half made, half removed, locked."""
    looks = itertools.count()

    def tick():
        while next(looks) % 3 == 2 and any(task["status"] == "running" for task in pve.control.tasks()):
            time.sleep(0.005)

    def run(fault, clock):
        pve.control.settings(time_scale=0)
        with stage(case, sort) as (scene, machine, operation):
            pve.control.settings(time_scale=0.02)
            wire.fault, scene.tick = fault, tick
            deliver(scene, operation, clock)
            is_right(case, scene, machine, operation)

    try:
        assert strike_everywhere("crash", run) >= 4
    finally:
        pve.control.settings(time_scale=0)


@pytest.mark.parametrize("sort", [VM, CONTAINER], ids=str)
@pytest.mark.parametrize("case", MAKING, ids=str)
def test_a_stranger_at_the_number_survives_a_crash_at_every_write(case, sort, stage, wire, pve):
    """It takes the number between our choice and the clone, or between the removal of a machine and its being made anew."""

    def run(fault, clock):
        with stage(case, sort) as (scene, machine, operation):

            def settle_in(url):
                if url.endswith("/clone") and str(scene.first) not in scene.look():
                    pve.control.add_vm(scene.first, "payroll", node="pve3", pool=pve.pool)

            wire.fault, wire.ahead = fault, settle_in
            deliver(scene, operation, clock)
            stranger = pve.control.guest(scene.first)
            assert (stranger["name"], stranger["node"], stranger["status"], stranger["config"]) == ("payroll", "pve3", "stopped", {"name": "payroll"})
            pve.control.remove(scene.first)
            is_right(case, scene, machine, operation)
            assert machine.ref == str(scene.first + 1)

    assert strike_everywhere("crash", run) >= 4


@pytest.mark.parametrize("case", IN_PLACE, ids=str)
def test_a_stranger_in_the_place_of_our_machine_is_never_touched(case, stage, pve):
    with time_machine.travel(timezone.now()) as clock, stage(case, VM) as (scene, machine, operation):
        pve.control.replace(scene.first, "payroll", pool=pve.pool)
        there = scene.look()
        pve.control.reset_calls()
        deliver(scene, operation, clock)
        machine.refresh_from_db()
        assert (operation.state, operation.code, machine.state) == (OperationState.FAILED, "foreign_machine", State.FAILED)
        assert scene.look() == there and all(call.startswith("GET ") for call in pve.control.calls())
