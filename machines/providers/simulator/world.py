"""The hypervisor in memory: templates, nodes, machines and the work on them. Runs in one asyncio loop.

It behaves as a real one where that matters to whoever drives it: work takes time and queues for
the host's capacity, memory and storage run out, a machine does one thing at a time, guests boot
before they answer and press no button they do not want to.
"""

import asyncio
import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from machines.providers.errors import (
    Busy,
    ForeignMachine,
    InvalidSpec,
    NoCapacity,
    NotRunning,
    Overloaded,
    ProviderError,
    StorageFull,
    TaskFailed,
    TemplateMissing,
)
from machines.providers.types import (
    MachineIdentity,
    MachineSpec,
    Metrics,
    NodeInfo,
    Power,
    Presence,
    Sighting,
    SnapshotInfo,
    Stage,
    StopMode,
    TaskRef,
    TemplateInfo,
)

from .faults import FaultKind, Faults
from .host import Host
from .machine import TEMPLATES, Disk, Snapshot, Template, VirtualMachine
from .store import Store
from .work import Work, Workshop

MAX_CORES, MAX_MEMORY_MIB, MAX_DISK_GIB = 64, 512 * 1024, 4096


class World:
    def __init__(self, host: Host, store: Store | None = None) -> None:
        self.host, self.timing, self.faults = host, host.timing, Faults()
        self.workshop = Workshop(host.parallel)
        self.templates: dict[str, Template] = {template.ref: template for template in TEMPLATES}
        self.machines: dict[str, VirtualMachine] = {}
        self.revision = 0  # goes up with every change
        self.power_listeners: list[Callable[[VirtualMachine], None]] = []  # told of power on, power off and reset
        self._doing: dict[str, Work] = {}  # by ref
        self._memory_used = {f"sim-{number}": 0 for number in range(1, host.nodes + 1)}
        self._storage_used = 0.0
        self._changed = asyncio.Event()
        self._store, self._unsaved, self._gone = store, set[str](), set[str]()

    def load(self) -> None:
        """Take back what the store has. What was being made when the simulator died is broken now."""
        for machine in self._store.load() if self._store else ():
            if machine.stage is Stage.BUILDING:
                machine.stage = Stage.BROKEN
            if machine.node not in self._memory_used:  # fewer nodes than last time
                machine.node = next(iter(self._memory_used))
            self.machines[machine.ref] = machine
            self._storage_used += machine.storage_gib
            if machine.on:
                self._memory_used[machine.node] += machine.memory_mib
                self._tell_power(machine)

    async def close(self) -> None:
        """The host is shut down, and its machines with it. One that dies leaves them as they are."""
        await self.workshop.close()
        for machine in self.machines.values():
            self._cut_power(machine)
        self.save()

    # -- looking ---------------------------------------------------------------------------

    def nodes(self) -> list[NodeInfo]:
        total = self.host.node_memory_mib
        return [NodeInfo(name, True, self.host.node_cores, total, total - used) for name, used in self._memory_used.items()]

    def template_list(self) -> list[TemplateInfo]:
        return [TemplateInfo(each.ref, each.name, each.disk_gib, each.description, each.username) for each in self.templates.values()]

    def metrics(self) -> list[Metrics]:
        """Made up: busy while booting, then a slow wave, another for every machine."""
        load = []
        for place, machine in enumerate(self.machines.values()):
            if machine.on:
                wave = (1 + math.sin(self.now() / 20 + place)) / 2
                cpu, memory = (0.9, 0.3) if not self.booted(machine) else (0.02 + 0.1 * wave, 0.3 + 0.2 * wave)
                load.append(Metrics(machine.ref, cpu=cpu, memory_mib=memory * machine.memory_mib))
        return load

    def figures(self) -> dict[str, float]:
        return {
            "machines": len(self.machines),
            "running": sum(machine.on for machine in self.machines.values()),
            "busy": self.workshop.busy,
            "busiest": self.workshop.busiest,
            "finished": self.workshop.finished,
            "storage_gib": self._storage_used,
            "storage_total_gib": self.host.storage_gib,
        }

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        machine = self.machines.get(ref)
        if machine is None:
            return Sighting(Presence.ABSENT)
        if not machine.belongs_to(identity):
            return Sighting(Presence.FOREIGN, detail=f"{machine.name} is in its place")
        return Sighting(Presence.OURS, machine.stage, Power.ON if machine.on else Power.OFF, machine.node)

    def ours(self, identity: MachineIdentity, ref: str) -> VirtualMachine:
        machine = self.machines.get(ref)
        if machine is None:
            raise TaskFailed(f"no machine at {ref}", message="The machine is not on the cluster.")
        if not machine.belongs_to(identity):
            raise ForeignMachine(f"{ref} holds {machine.name}")
        return machine

    def running(self, identity: MachineIdentity, ref: str) -> VirtualMachine:
        machine = self.ours(identity, ref)
        if not machine.on:
            raise NotRunning(f"{ref} is off")
        return machine

    async def change_after(self, revision: int, seconds: float) -> int:
        """The present revision, as soon as it is larger than `revision`, at most `seconds` later."""
        if self.revision <= revision:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        return self.revision

    # -- the verbs -------------------------------------------------------------------------

    def create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        if ref in self.machines:
            machine = self.ours(identity, ref)
            return self._doing[ref].ref if machine.stage is Stage.BUILDING else None
        template = self.templates.get(spec.template)
        if template is None:
            raise TemplateMissing(f"no template {spec.template}")
        _check_form(spec)
        if 0 < self.host.clones <= sum(work.kind == "create" for work in self._doing.values()):
            raise Overloaded("can't lock the storage: got timeout")
        machine = VirtualMachine(ref, identity.name, spec.template, identity, disk_gib=template.disk_gib, linked=spec.linked, stage=Stage.BUILDING)
        machine.take_form(spec)
        if self._storage_used + machine.storage_gib > self.host.storage_gib:
            raise StorageFull(f"{self._storage_used:.0f} of {self.host.storage_gib:.0f} GiB are used")
        machine.node = max(self._memory_used, key=lambda node: self.host.node_memory_mib - self._memory_used[node])
        self._add(machine)

        def finish(error: ProviderError | None) -> None:
            if error is None:
                machine.stage = Stage.READY
                self.changed(machine)
            elif isinstance(error, _HalfBuilt):
                machine.stage = Stage.BROKEN
                self.changed(machine)
            else:
                self._remove(machine)

        return self._begin(machine, "create", self.timing.create if spec.linked else self.timing.full_clone, finish)

    def configure(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> None:
        machine = self.ours(identity, ref)
        self._under_way(machine, "configure")
        _check_whole(machine)
        _check_form(spec)
        if not machine.on:
            machine.take_form(spec)
            self.changed(machine)

    def start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        machine = self.ours(identity, ref)
        if under_way := self._under_way(machine, "start"):
            return under_way
        if machine.on:
            return None
        _check_whole(machine)
        if self._memory_used[machine.node] + machine.memory_mib > self.host.node_memory_mib:
            raise NoCapacity(f"{machine.node} has no {machine.memory_mib} MiB left")
        self._memory_used[machine.node] += machine.memory_mib

        def finish(error: ProviderError | None) -> None:
            if error is None:
                self._switch_on(machine)
            else:
                self._memory_used[machine.node] -= machine.memory_mib

        return self._begin(machine, "start", self.timing.start, finish)

    def stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        if ref not in self.machines:
            return None
        machine = self.ours(identity, ref)
        doing = self._doing.get(ref)
        if mode is StopMode.FORCE:
            if doing and doing.kind not in ("start", "stop", "reboot"):
                raise Busy(f"{ref}: {doing.kind} is at work")
            self.switch_off(machine)
            return None
        if under_way := self._under_way(machine, "stop"):
            return under_way
        if not machine.on:
            return None
        seconds = max(machine.boots_until - self.now(), 0) + self.timing.stop if machine.obeys_button else None
        return self._begin(machine, "stop", seconds, lambda error: None if error else self._cut_power(machine), takes_place=False)

    def reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        machine = self.running(identity, ref)
        if under_way := self._under_way(machine, "reboot"):
            return under_way
        return self._begin(machine, "reboot", self.timing.reboot, lambda error: None if error else self.boot_again(machine))

    def revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str) -> TaskRef | None:
        machine = self.ours(identity, ref)
        if under_way := self._under_way(machine, f"revert {snapshot}"):
            return under_way
        _check_whole(machine)
        _check_off(machine)
        if snapshot and snapshot not in machine.snapshots:
            raise TaskFailed(f"{ref} has no snapshot {snapshot}", message="This snapshot is not on the cluster.")

        def finish(error: ProviderError | None) -> None:
            if error is None:
                machine.disk = machine.snapshots[snapshot].disk if snapshot else Disk()
                machine.take_form(spec)
                self.changed(machine)

        return self._begin(machine, f"revert {snapshot}", self.timing.revert, finish)

    def destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        if ref not in self.machines:
            return None
        machine = self.ours(identity, ref)
        doing = self._doing.get(ref)
        if doing and doing.kind in ("start", "stop", "reboot"):
            self.switch_off(machine)
        elif under_way := self._under_way(machine, "destroy"):
            return under_way
        return self._begin(machine, "destroy", self.timing.destroy, lambda error: None if error else self.remove(machine))

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        machine = self.ours(identity, ref)
        return [SnapshotInfo(name, snapshot.created) for name, snapshot in machine.snapshots.items()]

    def snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        machine = self.ours(identity, ref)
        if under_way := self._under_way(machine, f"snapshot {name}"):
            return under_way
        _check_whole(machine)
        if name in machine.snapshots:
            return None

        def finish(error: ProviderError | None) -> None:
            if error is None:
                machine.snapshots[name] = Snapshot(self.now(), machine.disk)
                self.changed(machine)

        return self._begin(machine, f"snapshot {name}", self.timing.snapshot, finish)

    def delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        machine = self.ours(identity, ref)
        if under_way := self._under_way(machine, f"delete_snapshot {name}"):
            return under_way
        if name not in machine.snapshots:
            return None

        def finish(error: ProviderError | None) -> None:
            if error is None:
                del machine.snapshots[name]
                self.changed(machine)

        return self._begin(machine, f"delete_snapshot {name}", self.timing.snapshot, finish)

    def resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        machine = self.ours(identity, ref)
        if under_way := self._under_way(machine, "resize"):
            return under_way
        _check_whole(machine)
        _check_form(spec)
        _check_off(machine)
        if spec.disk_gib is not None and spec.disk_gib < machine.disk_gib:
            raise InvalidSpec(f"{machine.disk_gib} GiB cannot become {spec.disk_gib}", message="A disk can only become larger.")

        def finish(error: ProviderError | None) -> None:
            if error is None:
                self._storage_used -= machine.storage_gib
                machine.take_form(spec)
                self._storage_used += machine.storage_gib
                self.changed(machine)

        return self._begin(machine, "resize", self.timing.resize, finish)

    def set_password(self, identity: MachineIdentity, ref: str, username: str, password: str) -> None:
        machine = self.running(identity, ref)
        if not self.booted(machine):
            raise Busy(f"{ref} still boots", message="The machine is still booting.")
        if username != machine.disk.username:
            raise TaskFailed(f"{ref} has no user {username}", message="The machine has no such account.")
        self.write(machine, replace(machine.disk, password=password))

    # -- power and disk, also for guests and for whoever is at the host itself ---------------

    def now(self) -> float:
        return time.time()

    def booted(self, machine: VirtualMachine) -> bool:
        return machine.on and self.now() >= machine.boots_until

    def write(self, machine: VirtualMachine, disk: Disk) -> None:
        machine.disk = disk
        self.changed(machine)

    def boot_again(self, machine: VirtualMachine) -> None:
        self._switch_on(machine)

    def switch_off(self, machine: VirtualMachine) -> None:
        """Off at once; what was being done about its power is over."""
        self._break_off(machine, "was switched off")
        self._cut_power(machine)

    def switch_on(self, machine: VirtualMachine) -> None:
        """On at once, whatever the memory."""
        if not machine.on:
            self._memory_used[machine.node] += machine.memory_mib
            self._switch_on(machine)

    def remove(self, machine: VirtualMachine) -> None:
        """Gone at once, with what was being done to it."""
        if machine.on:
            self._cut_power(machine)
        self._remove(machine)

    def adopt(self, identity: MachineIdentity, ref: str, guest: str) -> None:
        machine = self.machines.get(ref)
        if machine is None:
            raise TaskFailed(f"no machine at {ref}", message="The machine is not on the cluster.")
        if not machine.belongs_to(identity) and (machine.label is not None or machine.name != guest):
            raise ForeignMachine(f"{ref} holds {machine.name}")
        machine.label = identity
        self.changed(machine)

    def release(self, identity: MachineIdentity, ref: str) -> None:
        machine = self.ours(identity, ref)
        machine.label = None
        self.changed(machine)

    def plant(self, ref: str, name: str, label: MachineIdentity | None) -> None:
        """A machine that somebody else made."""
        self._add(VirtualMachine(ref, name, next(iter(TEMPLATES)).ref, label, node=next(iter(self._memory_used))))

    def _switch_on(self, machine: VirtualMachine) -> None:
        if not machine.disk.host_key:
            machine.disk = machine.disk.first_boot(self.templates.get(machine.template, TEMPLATES[0]), machine.seed)
        machine.on, machine.boot_id = True, str(uuid.uuid4())
        machine.boots_until = self.now() + self.timing.boot
        self._tell_power(machine)
        self.changed(machine)

    def _cut_power(self, machine: VirtualMachine) -> None:
        if machine.on:
            machine.on = False
            self._memory_used[machine.node] -= machine.memory_mib
            self._tell_power(machine)
            self.changed(machine)

    def _tell_power(self, machine: VirtualMachine) -> None:
        for listener in self.power_listeners:
            listener(machine)

    # -- work ------------------------------------------------------------------------------

    def _under_way(self, machine: VirtualMachine, kind: str) -> TaskRef | None:
        """The task of this kind that is at the machine already. Raises Busy when another is."""
        doing = self._doing.get(machine.ref)
        if doing is None:
            return None
        if doing.kind != kind:
            raise Busy(f"{machine.ref}: {doing.kind} is at work")
        return doing.ref

    def _begin(
        self, machine: VirtualMachine, kind: str, seconds: float | None, finish: Callable[[ProviderError | None], None], *, takes_place: bool = True
    ) -> TaskRef:
        work = Work(kind, seconds)
        self._doing[machine.ref] = work
        verb, names = kind.split()[0], (machine.ref, machine.name)

        def end(error: ProviderError | None) -> None:
            if self._doing.get(machine.ref) is work:
                del self._doing[machine.ref]
            if fault := self.faults.take(FaultKind.HALF_BUILT, verb, *names):
                error = _HalfBuilt(fault.reason or "the clone broke off in the middle")
            elif fault := self.faults.take(FaultKind.TASK_FAILS, verb, *names):
                error = TaskFailed(fault.reason, message=fault.reason)
            finish(error)
            self.save()
            if error:
                raise error

        known = self.faults.take(FaultKind.TASK_LOST, verb, *names) is None
        return self.workshop.begin(work, end, known=known, takes_place=takes_place)

    def _break_off(self, machine: VirtualMachine, why: str) -> None:
        if doing := self._doing.pop(machine.ref, None):
            if doing.kind == "start":
                self._memory_used[machine.node] -= machine.memory_mib
            self.workshop.end(doing, None if doing.kind == "stop" else TaskFailed(f"{machine.ref} {why}"))

    def _add(self, machine: VirtualMachine) -> None:
        self.machines[machine.ref] = machine
        self._gone.discard(machine.ref)
        self._storage_used += machine.storage_gib
        self.changed(machine)

    def _remove(self, machine: VirtualMachine) -> None:
        self._break_off(machine, "was removed")
        if self.machines.pop(machine.ref, None):
            self._storage_used -= machine.storage_gib
            self._unsaved.discard(machine.ref)
            self._gone.add(machine.ref)
            self._wake()

    def changed(self, machine: VirtualMachine) -> None:
        machine.version += 1
        self._unsaved.add(machine.ref)
        self._wake()

    def _wake(self) -> None:
        self.revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def save(self) -> None:
        """Write down what changed. Called before anybody is told that it did."""
        if self._store and (self._unsaved or self._gone):
            self._store.save([self.machines[ref] for ref in self._unsaved], self._gone)
        self._unsaved.clear()
        self._gone.clear()


class _HalfBuilt(TaskFailed):
    """The creating task failed and left a broken machine."""


def _check_form(spec: MachineSpec) -> None:
    if not (1 <= spec.cores <= MAX_CORES and 1 <= spec.memory_mib <= MAX_MEMORY_MIB and 1 <= (spec.disk_gib or 1) <= MAX_DISK_GIB):
        raise InvalidSpec(f"cores {spec.cores}, memory {spec.memory_mib} MiB, disk {spec.disk_gib} GiB")


def _check_whole(machine: VirtualMachine) -> None:
    if machine.stage is not Stage.READY:
        raise TaskFailed(f"{machine.ref} is {machine.stage}", message="The machine was never finished.")


def _check_off(machine: VirtualMachine) -> None:
    if machine.on:
        raise TaskFailed(f"{machine.ref} is on", message="The machine must be off for this.")
