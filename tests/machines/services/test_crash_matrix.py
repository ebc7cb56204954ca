"""The promise of the engine: an operation is never lost, never done twice and never done to
somebody else's machine.

Every kind of operation is run with a fault at every boundary there is: before and after each
call to the hypervisor, before and after each commit, in the worker as in the watcher. Then it
is delivered again until it ends. Whatever the fault and wherever it strikes: one machine, or
none where it was to be removed; strangers untouched; the record complete; nothing left active.
"""

import pytest
from django.conf import settings
from django.db import transaction

from machines.lifecycle import Kind, State
from machines.models import Machine, Operation, OperationState
from machines.providers.types import MachineIdentity, Power, Stage
from machines.services import executor, gateway, leases, waiting, work
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.machines.providers import fakes

from .crashing import CASES, LOOKING, MODES, Case, Fault, Scene, Seen, check, deliver, strike_everywhere

pytestmark = pytest.mark.django_db


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


class FakeScene(Scene):
    """With a stranger on it, and one that nobody has labelled."""

    def __init__(self, slowness: int) -> None:
        cluster = make_cluster(kind="fake", stop_deadline=30)
        self.template = make_template(cluster)
        self.world = fakes.world(cluster.name)
        self.world.slowness = slowness
        self.world.settle_in("stranger")
        self.world.machines["nameless"] = fakes.FakeMachine(None, power=Power.ON)
        self.old: fakes.FakeMachine | None = None
        super().__init__(cluster, self._look, self._as_wanted, self.world.tick)

    def _look(self) -> dict[str, Seen]:
        return {ref: self._seen(machine) for ref, machine in self.world.machines.items()}

    def _seen(self, machine: fakes.FakeMachine) -> Seen:
        key = machine.identity.key if machine.identity else ""
        used = machine is self.old and machine.reverts == 0
        rest = (machine.spec, machine.deaf, machine.reverts)
        return Seen(key, machine.power, machine.stage is Stage.READY, tuple(machine.snapshots), used, machine.reboots, rest)

    def _as_wanted(self, machine: Machine) -> bool:
        return self.world.machines[machine.ref].spec == gateway.spec(machine)

    def set_out(self, case: Case) -> tuple[Machine, Operation]:
        match case.kind:
            case Kind.PROVISION:
                return self.create(case, self.template, cores=1, memory_mib=256)
            case Kind.ADOPT:
                return self.adopt("nameless")
        machine = make_machine(template=self.template, owner=make_user(), state=case.before, adopted=case.kind == Kind.RELEASE)
        power = Power.ON if case.before == State.RUNNING else Power.OFF
        identity = MachineIdentity(str(machine.key), machine.name, settings.PORTAL_ID)
        self.old = self.world.machines[machine.ref] = fakes.FakeMachine(identity, power=power, deaf=case.deaf, keeps_snapshots=not case.bare)
        if case.kind == Kind.DELETE_SNAPSHOT:
            machine.snapshots.create(name="monday", ready=True)
            self.old.snapshots.append("monday")
        return self.ask(case, machine)

    def arm(self, fault: Fault, commits: list[Fault]) -> None:
        commits[:] = [fault]
        self.world.at = fault.boundary


@pytest.mark.parametrize("slowness", [0, 2], ids=["at-once", "slow"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_whatever_breaks_wherever_the_operation_ends_once_and_right(case, mode, slowness, commits):
    def run(fault, clock):
        scene = FakeScene(slowness)
        machine, operation = scene.set_out(case)
        scene.arm(fault, commits)
        deliver(scene, operation, clock)
        check(case, scene, machine, operation)

    assert strike_everywhere(mode, run) >= (5 if mode == "crash" else 1), "the matrix missed its boundaries"


@pytest.mark.parametrize("squatter", ["there before", "comes between look and call"])
def test_a_stranger_at_the_ref_survives_a_crash_at_every_boundary(squatter, commits):
    def run(fault, clock):
        scene = FakeScene(1)
        machine, operation = scene.set_out(CASES[0])
        place = str(machine.key)
        stranger = scene.world.settle_in(place)
        scene.before = scene.look()
        if squatter != "there before":
            del scene.world.machines[place]
            scene.world.squatter = True
        scene.arm(fault, commits)
        deliver(scene, operation, clock)
        check(CASES[0], scene, machine, operation)
        assert scene.world.untouched(place) and machine.ref != place and stranger == scene.world.machines[place]

    assert strike_everywhere("crash", run) >= 10


IN_PLACE = [case for case in CASES if case.before is not None and case.after != State.DESTROYED]


@pytest.mark.parametrize("case", IN_PLACE, ids=str)
def test_a_stranger_in_the_place_of_our_machine_is_never_touched(case, commits):
    def run(fault, clock):
        scene = FakeScene(1)
        machine, operation = scene.set_out(case)
        scene.world.settle_in(machine.ref)
        scene.arm(fault, commits)
        deliver(scene, operation, clock)
        machine.refresh_from_db()
        assert (operation.state, operation.code, machine.state) == (OperationState.FAILED, "foreign_machine", State.FAILED)
        assert scene.world.untouched(machine.ref) and set(scene.world.calls) <= LOOKING

    assert strike_everywhere("crash", run) >= 4


def test_a_stranger_in_the_place_of_one_that_was_removed_to_be_made_anew_is_never_touched(commits):
    case = next(case for case in CASES if case.bare)

    def run(fault, clock):
        scene = FakeScene(1)
        machine, operation = scene.set_out(case)
        place = machine.ref
        scene.world.squatter = True  # comes just before the new one is made
        scene.arm(fault, commits)
        deliver(scene, operation, clock)
        assert scene.world.untouched(place)
        del scene.world.machines[place]
        check(case, scene, machine, operation)
        assert machine.ref != place

    assert strike_everywhere("crash", run) >= 10
