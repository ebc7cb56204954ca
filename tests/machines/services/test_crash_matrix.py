"""The promise of the engine: an operation is never lost, never done twice and never done to
somebody else's machine.

Every kind of operation is run with a fault at every boundary there is: before and after each
call to the hypervisor, before and after each commit, in the worker as in the watcher. Then it
is delivered again until it ends. Whatever the fault and wherever it strikes: one machine, or
none where it was to be removed; strangers untouched; the record complete; nothing left active.
"""

import contextlib
from dataclasses import dataclass

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import STABLE, Kind, State
from machines.models import ACTIVE, Cluster, Machine, Operation, OperationEvent, OperationState
from machines.providers.errors import OutcomeUnknown, ProviderError
from machines.providers.types import MachineIdentity, Power, Stage
from machines.services import executor, gateway, leases, requests, sweep, waiting, work
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.machines.providers import fakes

pytestmark = pytest.mark.django_db

LOOKING = frozenset({"find", "poll", "inventory", "snapshots"})
MOST_ROUNDS = 40


class Crash(BaseException):
    """The process is gone: nothing after this line runs, nobody is told."""


@dataclass
class Fault:
    """Strikes once, at the `at`-th boundary of its mode."""

    mode: str  # crash; lost: the call was made, its answer never came; nothing: neither
    at: int
    passed: int = 0
    struck: bool = False

    def boundary(self, point: str, verb: str = "") -> None:
        match self.mode:
            case "crash":
                counts, error = True, Crash()
            case "lost":
                counts, error = point == "after_call" and verb not in LOOKING, OutcomeUnknown(verb)
            case _:
                counts, error = point == "before_call" and verb not in LOOKING, OutcomeUnknown(verb)
        if counts and not self.struck:
            self.passed += 1
            if self.passed == self.at:
                self.struck = True
                raise error


@pytest.fixture
def commits(monkeypatch):
    """Lets a fault strike around every transaction of the worker and of the watcher."""
    current: list[Fault] = []
    depth: list[str] = []

    def around(module, name):
        real = getattr(module, name)

        def call(*args, **kwargs):
            if depth:  # part of a larger transaction
                return real(*args, **kwargs)
            current[0].boundary("before_commit")
            depth.append(name)
            try:
                with transaction.atomic():
                    result = real(*args, **kwargs)
            finally:
                depth.pop()
            current[0].boundary("after_commit")
            return result

        monkeypatch.setattr(module, name, call)

    around(work.Work, "commit")
    around(executor, "write_down")
    around(leases, "_take")
    around(leases, "take_over")
    around(waiting, "_write")
    return current


@dataclass(frozen=True)
class Case:
    kind: Kind
    before: State | None  # None: nothing is there yet
    after: State
    params: tuple[tuple[str, object], ...] = ()
    deaf: bool = False

    def __str__(self) -> str:
        return f"{self.kind}{'-deaf' if self.deaf else ''}{''.join('-' + name for name, value in self.params if value is True)}"


CASES = [
    Case(Kind.PROVISION, None, State.STOPPED),
    Case(Kind.PROVISION, None, State.RUNNING, (("start", True),)),
    Case(Kind.START, State.STOPPED, State.RUNNING),
    Case(Kind.STOP, State.RUNNING, State.STOPPED),
    Case(Kind.STOP, State.RUNNING, State.STOPPED, deaf=True),
    Case(Kind.FORCE_OFF, State.RUNNING, State.STOPPED),
    Case(Kind.RESTART, State.RUNNING, State.RUNNING),
    Case(Kind.REVERT, State.STOPPED, State.STOPPED),
    Case(Kind.REVERT, State.RUNNING, State.RUNNING, (("start", True),)),
    Case(Kind.SNAPSHOT, State.RUNNING, State.RUNNING, (("name", "monday"),)),
    Case(Kind.DELETE_SNAPSHOT, State.STOPPED, State.STOPPED, (("name", "monday"),)),
    Case(Kind.RESIZE, State.STOPPED, State.STOPPED, (("cores", 4), ("memory_mib", 2048))),
    Case(Kind.DESTROY, State.RUNNING, State.DESTROYED),
    Case(Kind.DESTROY, State.STOPPED, State.DESTROYED),
]
VERBS = {
    Kind.START: requests.start,
    Kind.STOP: requests.stop,
    Kind.FORCE_OFF: requests.force_off,
    Kind.RESTART: requests.restart,
    Kind.REVERT: requests.revert,
    Kind.SNAPSHOT: requests.take_snapshot,
    Kind.DELETE_SNAPSHOT: requests.delete_snapshot,
    Kind.RESIZE: requests.resize,
    Kind.DESTROY: requests.destroy,
}


def set_out(case: Case, slowness: int) -> tuple[Cluster, fakes.World, Machine, Operation]:
    """A cluster with a stranger on it, and the operation asked for."""
    cluster = make_cluster(kind="fake", stop_deadline=30)
    template = make_template(cluster)
    world = fakes.world(cluster.name)
    world.slowness = slowness
    world.settle_in("stranger")
    student, params = make_user(), dict(case.params)
    if case.before is None:
        machine = requests.create_machine(acting_user=student, template=template, name="web-07", owner=student, cores=1, memory_mib=256, **params)
        return cluster, world, machine, machine.operations.get()
    machine = make_machine(template=template, owner=student, state=case.before)
    power = Power.ON if case.before == State.RUNNING else Power.OFF
    identity = MachineIdentity(str(machine.key), machine.name, settings.PORTAL_ID)
    world.machines[machine.ref] = fakes.FakeMachine(identity, power=power, deaf=case.deaf)
    if case.kind == Kind.DELETE_SNAPSHOT:
        machine.snapshots.create(name="monday", ready=True)
        world.machines[machine.ref].snapshots.append("monday")
    params.pop("start", None)
    return cluster, world, machine, VERBS[case.kind](machine, acting_user=student, **params)


def deliver(cluster: Cluster, world: fakes.World, operation: Operation, clock: time_machine.Traveller) -> None:
    """Workers and watchers come and go until the operation ended; leases run out in between."""
    for _ in range(MOST_ROUNDS):
        with contextlib.suppress(Crash):
            executor.drain()
        operation.refresh_from_db()
        if not operation.is_active:
            return
        world.tick()
        with contextlib.suppress(Crash, ProviderError):
            waiting.poll(cluster, gateway.provider_for(cluster))
        clock.shift(settings.LEASE_SECONDS + 1 if operation.state == OperationState.RUNNING else 3)
        with contextlib.suppress(Crash):
            sweep.sweep()
    pytest.fail(f"still {operation.state} after {MOST_ROUNDS} rounds: {operation.message} {operation.checkpoint}")


def check(case: Case, world: fakes.World, machine: Machine, operation: Operation) -> None:
    machine.refresh_from_db()
    where = f"{operation.state} {operation.code} {operation.message} {operation.detail}"
    assert operation.state == OperationState.SUCCEEDED, where
    assert machine.state == case.after and machine.state in STABLE, where
    assert not Operation.objects.filter(machine=machine, state__in=ACTIVE).exists() and operation.lease == ""

    ours = world.ours(str(machine.key))
    if case.after == State.DESTROYED:
        assert ours == [] and machine.password == "" and machine.ssh_private_key == ""
    else:
        (there,) = ours
        assert there is world.machines[machine.ref] and there.stage is Stage.READY
        assert there.power is (Power.ON if case.after == State.RUNNING else Power.OFF)
    match case.kind:
        case Kind.PROVISION:
            assert machine.made_at is not None and there.spec == gateway.spec(machine)
        case Kind.RESTART:
            assert there.reboots >= 1
        case Kind.REVERT:
            assert there.reverts >= 1
        case Kind.SNAPSHOT:
            assert there.snapshots == ["monday"] and machine.snapshots.get().ready
        case Kind.DELETE_SNAPSHOT:
            assert there.snapshots == [] and not machine.snapshots.exists()
        case Kind.RESIZE:
            assert (machine.cores, there.spec.cores, there.spec.memory_mib) == (4, 4, 2048)
    assert world.untouched("stranger")

    record = AuditEntry.objects.filter(object_id=str(machine.key))
    assert list(record.order_by("id").values_list("action", flat=True)) == [f"machine.{case.kind}", "operation.succeeded"]
    assert record.last().actor is not None
    told = list(OperationEvent.objects.filter(operation=operation).values_list("text", flat=True))
    assert told, "nobody was told anything"


@pytest.mark.parametrize("slowness", [0, 2], ids=["at-once", "slow"])
@pytest.mark.parametrize("mode", ["crash", "lost", "nothing"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_whatever_breaks_wherever_the_operation_ends_once_and_right(case, mode, slowness, commits):
    struck = 0
    for at in range(1, 200):
        with time_machine.travel(timezone.now()) as clock:
            cluster, world, machine, operation = set_out(case, slowness)
            fault = Fault(mode, at)
            commits[:] = [fault]
            world.at = fault.boundary
            deliver(cluster, world, operation, clock)
            check(case, world, machine, operation)
        if not fault.struck:
            break
        struck += 1
    else:
        pytest.fail("the fault still strikes after 200 boundaries")
    assert struck >= (5 if mode == "crash" else 1), "the matrix missed its boundaries"


@pytest.mark.parametrize("squatter", ["there before", "comes between look and call"])
def test_a_stranger_at_the_ref_survives_a_crash_at_every_boundary(squatter, commits):
    struck = 0
    for at in range(1, 200):
        with time_machine.travel(timezone.now()) as clock:
            cluster, world, machine, operation = set_out(CASES[0], 1)
            place = str(machine.key)
            if squatter == "there before":
                world.settle_in(place)
            else:
                world.squatter = True
            fault = Fault("crash", at)
            commits[:] = [fault]
            world.at = fault.boundary
            deliver(cluster, world, operation, clock)
            check(CASES[0], world, machine, operation)
            machine.refresh_from_db()
            assert world.untouched(place) and machine.ref != place
        if not fault.struck:
            break
        struck += 1
    assert struck >= 10


@pytest.mark.parametrize("case", [case for case in CASES if case.before is not None and case.kind != Kind.DESTROY], ids=str)
def test_a_stranger_in_the_place_of_our_machine_is_never_touched(case, commits):
    for at in range(1, 200):
        with time_machine.travel(timezone.now()) as clock:
            cluster, world, machine, operation = set_out(case, 1)
            world.settle_in(machine.ref)
            fault = Fault("crash", at)
            commits[:] = [fault]
            world.at = fault.boundary
            deliver(cluster, world, operation, clock)
            machine.refresh_from_db()
            assert (operation.state, operation.code, machine.state) == (OperationState.FAILED, "foreign_machine", State.FAILED)
            assert world.untouched(machine.ref) and set(world.calls) <= LOOKING
        if not fault.struck:
            break
    assert at > 4
