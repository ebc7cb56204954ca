"""A small hypervisor for tests of the engine: in memory, without a clock, with faults on demand.

It keeps the promises of `machines.providers.base`. Work takes as many ticks as the world's
`slowness` says, whether anybody asks after it or not; 0 is done in the call itself. Worlds are found by the cluster's name, so that
every provider made for it sees the same one.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from machines.providers.base import Provider
from machines.providers.errors import ForeignMachine, NotRunning, ProviderError, TaskFailed, TemplateMissing, Unreachable
from machines.providers.types import (
    Capabilities,
    Check,
    Endpoint,
    Inventory,
    MachineIdentity,
    MachineSpec,
    ObservedMachine,
    Power,
    Presence,
    ProviderSettings,
    Sighting,
    SnapshotInfo,
    Stage,
    StopMode,
    TaskRef,
    TaskState,
    TaskStatus,
    TemplateInfo,
)

Result = TypeVar("Result")

STRANGER = MachineIdentity(key="somebody", name="payroll", portal="another-portal")


@dataclass
class FakeMachine:
    identity: MachineIdentity | None
    power: Power = Power.OFF
    stage: Stage = Stage.READY
    snapshots: list[str] = field(default_factory=list)
    reverts: int = 0
    reboots: int = 0
    keeps_snapshots: bool = True  # where not, a revert removes it
    deaf: bool = False  # does not hear the power button
    spec: MachineSpec | None = None
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[Endpoint, ...] = ()  # those only the guest knows


@dataclass
class FakeTask:
    ticks_left: int
    effect: Callable[[], object]
    error: ProviderError | None = None


Point = Callable[[str, str], None]


@dataclass
class World:
    """`at` is called as at(point, verb) before and after every call, and may raise anything."""

    slowness: int = 0
    machines: dict[str, FakeMachine] = field(default_factory=dict)
    tasks: dict[str, FakeTask] = field(default_factory=dict)
    templates: set[str] = field(default_factory=lambda: {"tiny"})
    calls: list[str] = field(default_factory=list)
    at: Point = lambda point, verb: None
    outage: bool = False
    task_errors: dict[str, list[ProviderError]] = field(default_factory=dict)  # by verb: how its next tasks fail
    squatter: bool = False  # a stranger takes the ref just before the next creating call
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    def tick(self) -> None:
        """Time passes."""
        for task in self.tasks.values():
            task.ticks_left -= 1
            if task.ticks_left == 0 and task.error is None:
                task.effect()

    def ours(self, key: str) -> list[FakeMachine]:
        return [machine for machine in self.machines.values() if machine.identity and machine.identity.key == key]

    def settle_in(self, ref: str) -> FakeMachine:
        """A stranger's machine at `ref`, on."""
        self.machines[ref] = FakeMachine(STRANGER, power=Power.ON)
        return self.machines[ref]

    def untouched(self, ref: str) -> bool:
        return self.machines.get(ref) == FakeMachine(STRANGER, power=Power.ON)


WORLDS: dict[str, World] = {}


def world(cluster: str) -> World:
    return WORLDS.setdefault(cluster, World())


class FakeProvider(Provider):
    kind = "fake"
    capabilities = Capabilities(snapshots=True, resize=True, templates=True, endpoints=True, adoption=True)

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self.world = world(settings.cluster)

    def check(self) -> list[Check]:
        return [Check("connection", not self.world.outage)]

    # -- looking

    def inventory(self) -> Inventory:
        return self._call("inventory", self._inventory)

    def _inventory(self) -> Inventory:
        return Inventory(
            machines=tuple(
                ObservedMachine(ref, "vm", machine.power, machine.stage, machine.identity, "node1", machine.endpoints)
                for ref, machine in self.world.machines.items()
            )
        )

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        def look() -> Sighting:
            machine = self.world.machines.get(ref)
            if machine is None:
                return Sighting(Presence.ABSENT)
            if machine.identity != identity:
                return Sighting(Presence.FOREIGN, detail=f"{ref} is {machine.identity}")
            return Sighting(Presence.OURS, machine.stage, machine.power, "node1", snapshots=machine.keeps_snapshots)

        return self._call("find", look)

    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        return self._call("poll", lambda: {task: self._poll(task) for task in tasks})

    def _poll(self, ref: TaskRef) -> TaskStatus:
        task = self.world.tasks.get(ref.id)
        if task is None:
            return TaskStatus(TaskState.LOST)
        if task.ticks_left > 0:
            return TaskStatus(TaskState.RUNNING, progress=0.5)
        return TaskStatus(TaskState.FAILED, error=task.error) if task.error else TaskStatus(TaskState.SUCCEEDED, progress=1.0)

    def templates(self) -> list[TemplateInfo]:
        return self._call("templates", lambda: [TemplateInfo(ref=ref, name=ref) for ref in sorted(self.world.templates)])

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        return self._call("endpoints", lambda: (*self._ours(identity, ref).endpoints, *self._ours(identity, ref).addresses))

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        return self._call("snapshots", lambda: [SnapshotInfo(name) for name in self._ours(identity, ref).snapshots])

    # -- the verbs

    def begin_create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        world = self.world

        def create() -> TaskRef | None:
            if world.squatter:
                world.squatter = False
                world.settle_in(ref)
            if ref in world.machines:
                self._ours(identity, ref)
                return None
            if spec.template not in world.templates:
                raise TemplateMissing(spec.template)
            machine = world.machines[ref] = FakeMachine(identity, stage=Stage.BUILDING, spec=spec)

            def finish() -> None:
                machine.stage = Stage.READY

            def spoil() -> None:
                machine.stage = Stage.BROKEN

            return self._work("create", finish, spoil)

        return self._call("create", create)

    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        def configure() -> None:
            self._ours(identity, ref).spec = spec

        self._call("configure", configure)
        return None

    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        return self._power("start", identity, ref, Power.ON)

    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        if ref not in self.world.machines:
            return self._call(mode, lambda: None)
        if mode is StopMode.FORCE:
            return self._power("force", identity, ref, Power.OFF)

        def press() -> TaskRef | None:
            machine = self._ours(identity, ref)
            if machine.power is Power.OFF:
                return None
            if machine.deaf:
                return self._task(FakeTask(ticks_left=10**9, effect=lambda: None))
            return self._work("graceful", lambda: setattr(machine, "power", Power.OFF))

        return self._call("graceful", press)

    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def reboot() -> TaskRef | None:
            machine = self._ours(identity, ref)
            if machine.power is not Power.ON:
                raise NotRunning(ref)
            machine.reboots += 1
            return self._work("reboot", lambda: None)

        return self._call("reboot", reboot)

    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        def revert() -> TaskRef | None:
            machine = self._ours(identity, ref)
            assert machine.power is Power.OFF, "reverted while on"

            def finish() -> None:
                machine.reverts += 1

            def remove() -> None:
                self.world.machines.pop(ref, None)

            return self._work("revert", finish if machine.keeps_snapshots else remove)

        return self._call("revert", revert)

    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def destroy() -> TaskRef | None:
            if ref not in self.world.machines:
                return None
            self._ours(identity, ref)
            return self._work("destroy", lambda: self.world.machines.pop(ref, None))

        return self._call("destroy", destroy)

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        def snapshot() -> TaskRef | None:
            kept = self._ours(identity, ref).snapshots
            return self._work("snapshot", lambda: None if name in kept else kept.append(name))

        return self._call("snapshot", snapshot)

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        def delete() -> TaskRef | None:
            kept = self._ours(identity, ref).snapshots
            return self._work("delete_snapshot", lambda: kept.remove(name) if name in kept else None)

        return self._call("delete_snapshot", delete)

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        def resize() -> TaskRef | None:
            machine = self._ours(identity, ref)
            return self._work("resize", lambda: setattr(machine, "spec", spec))

        return self._call("resize", resize)

    def adopt(self, identity: MachineIdentity, ref: str, guest: str) -> TaskRef | None:
        def label() -> None:
            machine = self.world.machines[ref]
            if machine.identity not in (None, identity):
                raise ForeignMachine(ref)
            machine.identity = identity

        return self._call("adopt", label)

    def release(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        return self._call("release", lambda: setattr(self._ours(identity, ref), "identity", None))

    # -- what they are made of

    def _call(self, verb: str, deed: Callable[[], Result]) -> Result:
        self.world.at("before_call", verb)
        if self.world.outage:
            raise Unreachable("the fake is out")
        self.world.calls.append(verb)
        result = deed()
        self.world.at("after_call", verb)
        return result

    def _ours(self, identity: MachineIdentity, ref: str) -> FakeMachine:
        machine = self.world.machines.get(ref)
        if machine is None:
            raise TaskFailed(f"{ref} is not there")
        if machine.identity != identity:
            raise ForeignMachine(ref)
        return machine

    def _power(self, verb: str, identity: MachineIdentity, ref: str, power: Power) -> TaskRef | None:
        def change() -> TaskRef | None:
            machine = self._ours(identity, ref)
            if machine.power is power:
                return None
            return self._work(verb, lambda: setattr(machine, "power", power))

        return self._call(verb, change)

    def _work(self, verb: str, effect: Callable[[], object], on_error: Callable[[], object] = lambda: None) -> TaskRef | None:
        """Work of `verb`: done now, or a task."""
        queue = self.world.task_errors.get(verb, [])
        if queue:
            on_error()
            return self._task(FakeTask(self.world.slowness, effect=lambda: None, error=queue.pop(0)))
        if self.world.slowness == 0:
            effect()
            return None
        return self._task(FakeTask(self.world.slowness, effect))

    def _task(self, task: FakeTask) -> TaskRef:
        ref = TaskRef(f"task{next(self.world._ids)}", kind="fake")
        self.world.tasks[ref.id] = task
        return ref
