"""The crash matrix, for clusters of any kind: an operation is set out, a fault strikes at one boundary, and it is
delivered again until it ends. Then it has to have ended once and right, wherever the fault struck.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import STABLE, Kind, State
from machines.models import ACTIVE, Cluster, Machine, Operation, OperationEvent, OperationState, Template
from machines.providers.errors import OutcomeUnknown, ProviderError
from machines.providers.types import Power
from machines.services import adoption, executor, gateway, inventory, requests, sweep, waiting
from tests.factories import make_user

LOOKING = frozenset({"find", "poll", "inventory", "snapshots"})
MODES = ("crash", "lost", "nothing")
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

    def strikes(self) -> bool:
        """Whether it is here that it does."""
        if self.struck:
            return False
        self.passed += 1
        self.struck = self.passed == self.at
        return self.struck

    def boundary(self, point: str, verb: str = "") -> None:
        match self.mode:
            case "crash":
                counts, error = True, Crash()
            case "lost":
                counts, error = point == "after_call" and verb not in LOOKING, OutcomeUnknown(verb)
            case _:
                counts, error = point == "before_call" and verb not in LOOKING, OutcomeUnknown(verb)
        if counts and self.strikes():
            raise error


@dataclass(frozen=True)
class Case:
    kind: Kind
    before: State | None  # None: nothing is there yet, or nothing of ours
    after: State
    params: tuple[tuple[str, object], ...] = ()
    deaf: bool = False
    bare: bool = False  # its storage keeps no snapshots

    def __str__(self) -> str:
        words = [str(self.kind), *(["deaf"] if self.deaf else []), *(["bare"] if self.bare else [])]
        return "-".join([*words, *(name for name, value in self.params if value is True)])


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
    Case(Kind.REVERT, State.STOPPED, State.STOPPED, bare=True),
    Case(Kind.REVERT, State.RUNNING, State.RUNNING, (("start", True),), bare=True),
    Case(Kind.SNAPSHOT, State.RUNNING, State.RUNNING, (("name", "monday"),)),
    Case(Kind.DELETE_SNAPSHOT, State.STOPPED, State.STOPPED, (("name", "monday"),)),
    Case(Kind.RESIZE, State.STOPPED, State.STOPPED, (("cores", 4), ("memory_mib", 2048))),
    Case(Kind.DESTROY, State.RUNNING, State.DESTROYED),
    Case(Kind.DESTROY, State.STOPPED, State.DESTROYED),
    Case(Kind.ADOPT, None, State.RUNNING),
    Case(Kind.RELEASE, State.RUNNING, State.DESTROYED),
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
    Kind.RELEASE: adoption.release,
}


@dataclass(frozen=True)
class Seen:
    """A machine on the cluster, as it is in truth."""

    key: str  # of our label; empty without one
    power: Power
    whole: bool = True
    snapshots: tuple[str, ...] = ()
    used: bool = False  # something was done in it since it was made, or made anew
    restarts: int = 0
    rest: object = None  # all else there is to know of it, but for our label

    @property
    def without_label(self) -> "Seen":
        return replace(self, key="")


@dataclass
class Scene:
    """What an operation is set out on: a cluster with machines of others."""

    cluster: Cluster
    look: Callable[[], Mapping[str, Seen]]  # everything there is, by ref
    as_wanted: Callable[[Machine], bool]  # made as the row says
    tick: Callable[[], None] = lambda: None  # time passes on the cluster
    crashed: Callable[[], None] = lambda: None  # the process that did is replaced
    before: Mapping[str, Seen] = field(default_factory=dict)
    recorded: int = 0

    # From each of these on, everything is watched.

    def create(self, case: Case, template: Template, **wanted: object) -> tuple[Machine, Operation]:
        self.before, student = self.look(), make_user()
        machine = requests.create_machine(acting_user=student, template=template, name="web-07", owner=student, **{**wanted, **dict(case.params)})
        return machine, machine.operations.get()

    def ask(self, case: Case, machine: Machine) -> tuple[Machine, Operation]:
        """What `case` asks of a machine that is there."""
        self.before, self.recorded = self.look(), AuditEntry.objects.filter(object_id=str(machine.key)).count()
        params = {name: value for name, value in case.params if name != "start"}
        return machine, VERBS[case.kind](machine, acting_user=make_user(role="staff"), **params)

    def adopt(self, ref: str) -> tuple[Machine, Operation]:
        """What is at `ref` and has nobody's label."""
        self.before, self.recorded = self.look(), 0
        inventory.look(self.cluster, gateway.provider_for(self.cluster))
        machine = adoption.adopt(self.cluster, ref, acting_user=make_user(role="staff"), owner=make_user(), name="web-07")
        return machine, machine.operations.get()


def deliver(scene: Scene, operation: Operation, clock: time_machine.Traveller) -> None:
    """Workers and watchers come and go until the operation ended; leases run out in between."""
    for _ in range(MOST_ROUNDS):
        with surviving(scene):
            executor.drain()
        operation.refresh_from_db()
        if not operation.is_active:
            return
        scene.tick()
        with surviving(scene), contextlib.suppress(ProviderError):
            waiting.poll(scene.cluster, gateway.provider_for(scene.cluster))
        abandoned = operation.state == OperationState.RUNNING
        clock.shift(settings.LEASE_SECONDS + 1 if abandoned else 10)
        if abandoned:
            with surviving(scene):
                sweep.sweep()
    pytest.fail(f"still {operation.state} after {MOST_ROUNDS} rounds: {operation.message} {operation.checkpoint}")


@contextlib.contextmanager
def surviving(scene: Scene):
    try:
        yield
    except Crash:
        scene.crashed()


def check(case: Case, scene: Scene, machine: Machine, operation: Operation) -> None:
    machine.refresh_from_db()
    where = f"{operation.state} {operation.code} {operation.message} {operation.detail}"
    assert operation.state == OperationState.SUCCEEDED, where
    assert machine.state == case.after and machine.state in STABLE, where
    assert not Operation.objects.filter(machine=machine, state__in=ACTIVE).exists() and operation.lease == ""

    now, before, key = scene.look(), dict(scene.before), str(machine.key)
    ours = [(ref, seen) for ref, seen in now.items() if seen.key == key]
    was = next((ref for ref, seen in before.items() if seen.key == key), "")
    if case.kind == Kind.RELEASE:
        before[was] = before[was].without_label
    if case.after == State.DESTROYED:
        assert ours == [] and machine.password == "" and machine.ssh_private_key == "" and machine.ref == ""
    else:
        ((ref, there),) = ours
        assert there.whole and ref == machine.ref
        assert there.power is (Power.ON if case.after == State.RUNNING else Power.OFF)
        if case.kind == Kind.ADOPT:
            assert there.without_label == before.pop(ref), "more than its label was changed"
    assert _others(now, key) == _others(before, key), "something of others was touched"
    match case.kind:
        case Kind.PROVISION:
            assert machine.made_at is not None and scene.as_wanted(machine)
        case Kind.RESTART:
            assert there.restarts >= 1
        case Kind.REVERT:
            assert before[was].used and not there.used and machine.made_at is not None and scene.as_wanted(machine)
        case Kind.SNAPSHOT:
            assert there.snapshots == ("monday",) and machine.snapshots.get().ready
        case Kind.DELETE_SNAPSHOT:
            assert there.snapshots == () and not machine.snapshots.exists()
        case Kind.RESIZE:
            assert (machine.cores, machine.memory_mib) == (4, 2048) and scene.as_wanted(machine)

    record = AuditEntry.objects.filter(object_id=key).order_by("id")[scene.recorded :]
    assert [entry.action for entry in record] == [f"machine.{case.kind}", "operation.succeeded"]
    assert record[0].actor is not None
    told = list(OperationEvent.objects.filter(operation=operation).values_list("text", flat=True))
    assert told, "nobody was told anything"


def _others(seen: Mapping[str, Seen], key: str) -> dict[str, Seen]:
    return {ref: one for ref, one in seen.items() if one.key != key}


def strike_everywhere(mode: str, run: Callable[[Fault, time_machine.Traveller], None]) -> int:
    """`run` with a fault at each boundary of `mode` in turn, until there is none left. Returns how many there were."""
    for at in range(1, 200):
        fault = Fault(mode, at)
        with transaction.atomic(), time_machine.travel(timezone.now()) as clock:
            run(fault, clock)
            transaction.set_rollback(True)  # the rows of all before would be looked through in each round
        if not fault.struck:
            return at - 1
    return pytest.fail("the fault still strikes after 200 boundaries")
