"""The provider for libvirt. `Cluster.config`:

    uri            libvirt's address of the daemon
    pool           the storage pool for machines and templates ("labportal")
    pool_path      its folder; with it the pool is made where it is missing
    template_pool  a pool of its own for templates; otherwise those named template-*.qcow2
    network        "user" (QEMU's own, SSH by a forwarded port) or the name of a libvirt network
    accel          "kvm" or "tcg"; without it, KVM where it is found to work
    vnc_listen     address the VNC servers bind to ("127.0.0.1")
    console_host   where the portal reaches that address, when it is another one

The ref of a machine is its domain's UUID.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import libvirt

from machines.providers.errors import Busy, ProviderError, TaskFailed, Unreachable
from machines.providers.types import (
    Capabilities,
    Check,
    Inventory,
    MachineIdentity,
    MachineSpec,
    NodeInfo,
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

from . import domain, domains, images
from .cluster import require_sizes, seed_image
from .domain import Label
from .errors_map import Taken, taken_port, translate
from .guests import LibvirtGuests, forwards
from .storage import BASELINE, disk_name, disk_of, template_ref

PORT_ATTEMPTS = 10
LABEL_SECONDS = 10.0  # how long a label read by the inventory is believed
SETTLE_SECONDS = 30.0  # a copy that has not moved for so long, and is not marked as whole, was left by its maker


class LibvirtProvider(LibvirtGuests):
    capabilities: ClassVar[Capabilities] = Capabilities(
        snapshots=True,
        resize=True,
        endpoints=True,
        guest_password=True,
        screenshot=True,
        metrics=True,
        templates=True,
        import_template=True,
        screen=True,
        full_clone=True,
        events=True,
    )

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._labels: dict[str, tuple[int, float, Label | None]] = {}  # by ref: power state, when read, label

    def wait_for_change(self, seconds: float) -> bool:
        return self._connection.wait_for_change(seconds)

    # -- looking ---------------------------------------------------------------------------

    def check(self) -> list[Check]:
        checks: list[Check] = []

        def look(name: str, ask: Callable[[Any], str]) -> bool:
            try:
                checks.append(Check(name, True, self._connection.call(ask)))
            except ProviderError as error:
                checks.append(Check(name, False, f"{error.message} ({error.detail})"))
            return checks[-1].ok

        if look("libvirt answers", lambda raw: f"{raw.getHostname()}, libvirt {_version(raw.getLibVersion())}, QEMU {_version(raw.getVersion())}"):
            look("storage pool", lambda raw: f"{self._pool}: {self._storage(raw).free_mib()} MiB free")
            look("templates", lambda raw: f"{len(self._storage(raw).templates())} found")
            look("processor", lambda raw: "KVM" if self._kvm(raw) else "no usable KVM: machines are emulated, about ten times slower")
        return checks

    def inventory(self) -> Inventory:
        def look(raw: Any) -> Inventory:
            # State alone is answered without asking QEMU: a hung one does not hold this up.
            machines = [self._observe(dom, stats["state.state"]) for dom, stats in raw.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)]
            seen = {machine.ref for machine in machines}
            self._labels = {ref: label for ref, label in self._labels.items() if ref in seen}
            memory = raw.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)
            available = memory.get("free", 0) + memory.get("buffers", 0) + memory.get("cached", 0)
            node = NodeInfo(
                name=raw.getHostname(),
                online=True,
                cores=raw.getInfo()[2],
                memory_total_mib=memory.get("total", 0) // 1024,
                memory_free_mib=available // 1024,
            )
            return Inventory(machines=tuple(machines), nodes=(node,), disk=disk_of(raw, self._pool))

        return self._connection.call(look)

    def _observe(self, dom: Any, state: int) -> ObservedMachine:
        ref = dom.UUIDString()
        known = self._labels.get(ref)
        if known is None or known[0] != state or time.monotonic() - known[1] > LABEL_SECONDS:
            known = (state, time.monotonic(), domains.label_of(dom))
            self._labels[ref] = known
        label, power = known[2], domains.power(state)
        return ObservedMachine(
            ref=ref,
            name=dom.name(),
            power=power,
            stage=Stage.BUILDING if label and label.building_since else Stage.READY,
            identity=label.identity if label else None,
            endpoints=forwards(label) if power is Power.ON else (),
        )

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        def look(raw: Any) -> Sighting:
            dom = domains.lookup(raw, ref)
            if dom is None:
                return Sighting(Presence.ABSENT)
            label = domains.label_of(dom)
            if label is None or not label.belongs_to(identity):
                return Sighting(Presence.FOREIGN)
            state, reason = dom.state(0)
            detail = "paused: the storage has no room or answers with errors" if (state, reason) == domains.PAUSED_BY_STORAGE else ""
            power, stage = domains.power(state), self._stage(raw, ref, label)
            if stage is Stage.READY and power is Power.OFF and not self._storage(raw).has_disk(ref):
                stage, detail = Stage.BROKEN, "its disk is gone"
            return Sighting(Presence.OURS, stage, power, detail=detail)

        return self._connection.call(look)

    def _stage(self, raw: Any, ref: str, label: Label) -> Stage:
        if not label.building_since:
            return Stage.READY
        # Whoever copies marks the copy as whole; this holds even when the daemon died half way
        # through. A copy that stands still and has no such mark is half a copy.
        copy = self._storage(raw).copy_state(ref)
        moved = max(copy.written, label.building_since)
        return Stage.BUILDING if copy.at_work or time.time() - moved < SETTLE_SECONDS else Stage.BROKEN

    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        return self._connection.call(lambda raw: {task: self._poll(raw, task) for task in tasks}) if tasks else {}

    def _poll(self, raw: Any, task: TaskRef) -> TaskStatus:
        """Tasks are named by what is to be seen: any process can look."""
        try:
            dom = domains.lookup(raw, task.id)
            match task.kind:
                case "off":
                    done = dom is None or domains.power_of(dom) is Power.OFF
                    return TaskStatus(TaskState.SUCCEEDED if done else TaskState.RUNNING)
                case "copy" if dom is not None and (label := domains.label_of(dom)) is not None:
                    match self._stage(raw, task.id, label):
                        case Stage.READY:
                            return TaskStatus(TaskState.SUCCEEDED)
                        case Stage.BUILDING:
                            return TaskStatus(TaskState.RUNNING, self._storage(raw).copy_progress(task.id, label.template))
                case "job" if dom is not None:
                    # A job that nobody sees any more ended, well or badly: observe the machine.
                    kind = dom.jobInfo()[0]
                    return TaskStatus(TaskState.LOST if kind == libvirt.VIR_DOMAIN_JOB_NONE else TaskState.RUNNING)
        except libvirt.libvirtError as error:
            translated = translate(error)
            if isinstance(translated, Unreachable):
                raise
            return TaskStatus(TaskState.RUNNING if isinstance(translated, Busy) else TaskState.LOST)
        return TaskStatus(TaskState.LOST)

    # -- making ----------------------------------------------------------------------------

    def begin_create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)
        content, digest = seed_image(identity, spec)
        copying = TaskRef(ref, "copy")

        def copy(raw: Any) -> None:
            storage = self._storage(raw)
            storage.copy_disk(ref, spec.template)
            storage.grow(ref, spec.disk_gib)
            found = self._ours_or_none(raw, identity, ref)
            if found is None:  # destroyed meanwhile
                storage.delete(disk_name(ref))
                return
            dom, label = found
            dom.snapshotCreateXML(domain.snapshot_xml(BASELINE), 0)
            self._relabel(raw, dom, replace(label, building_since=0.0))

        def create(raw: Any) -> TaskRef | None:
            found = self._ours_or_none(raw, identity, ref)
            if found is not None:
                return copying if found[1].building_since else None
            storage = self._storage(raw)
            storage.require_size(spec.template, spec.disk_gib)
            label = Label(identity, template=spec.template, ssh_port=self._port(), seed=digest)
            if spec.linked:
                storage.linked_disk(ref, spec.template, spec.disk_gib)
            if content:
                storage.seed_disk(ref, content)
            if spec.linked:
                self._define(raw, ref, label, spec)
                return None
            self._define(raw, ref, replace(label, building_since=time.time()), spec)
            # The label is there; the copy goes on by itself.
            return self._in_background(copy, copying)

        return self._connection.call(create, changes=True)

    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)
        content, digest = seed_image(identity, spec)

        def configure(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            domains.require_off(dom)
            if label.building_since:
                raise Busy(f"{ref} is still being copied", message="The machine is still being made.")
            storage = self._storage(raw)
            if content and digest != label.seed:
                storage.seed_disk(ref, content)
            if spec.disk_gib is not None:
                storage.grow(ref, spec.disk_gib)
            defined = domain.parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            wanted = replace(label, identity=identity, seed=digest)
            if wanted != label or (defined.cores, defined.memory_mib) != (spec.cores, spec.memory_mib):
                self._define(raw, ref, wanted, spec)

        self._connection.call(configure, changes=True)
        return None

    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def destroy(raw: Any) -> None:
            found = self._ours_or_none(raw, identity, ref)
            if found is not None:
                dom, _label = found
                domains.pull_the_plug(dom)
                dom.undefineFlags(domains.UNDEFINE_ALL)
            self._storage(raw).delete_all(ref)

        self._connection.call(destroy, changes=True)
        return None

    # -- power -----------------------------------------------------------------------------

    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def start(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            for attempts_left in reversed(range(PORT_ATTEMPTS)):
                try:
                    domains.switch_on(dom)
                    return
                except libvirt.libvirtError as error:
                    self._storage(raw).require_disk(ref)
                    # Somebody else has a port by now: take another. That of the screen libvirt chooses anew by itself.
                    if not attempts_left or not (taken := taken_port(error)):
                        raise
                if taken is Taken.SSH:
                    label = replace(label, ssh_port=self._port())
                    dom = self._relabel(raw, dom, label)

        self._connection.call(start, changes=True)
        return None

    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        def stop(raw: Any) -> TaskRef | None:
            found = self._ours_or_none(raw, identity, ref)
            if found is None:
                return None
            dom, _label = found
            if mode is StopMode.FORCE:
                domains.pull_the_plug(dom)
            elif domains.power_of(dom) is Power.ON:
                dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                return TaskRef(ref, "off")
            return None

        return self._connection.call(stop, changes=True)

    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def reboot(raw: Any) -> None:
            dom, _label = self._ours(raw, identity, ref)
            domains.require_on(dom)
            # A reset asks no guest, so it always works; at rest, the file systems lose nothing by it.
            frozen = domains.freeze(dom)
            try:
                dom.reset(0)
            except libvirt.libvirtError:
                if frozen:
                    domains.thaw(dom)
                raise

        self._connection.call(reboot, changes=True)
        return None

    # -- disks -----------------------------------------------------------------------------

    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        def revert(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            domains.require_off(dom)
            found = domains.find_snapshot(dom, domains.require_snapshot_name(snapshot)) if snapshot else domains.baseline(dom)
            if found is None:
                raise TaskFailed(f"no snapshot {snapshot}", message="The machine has no such snapshot any more.")
            domains.go_back_to(dom, found)
            # A snapshot brings the definition of its day back as well; ours is newer.
            self._define(raw, ref, label, spec)
            self._storage(raw).grow(ref, spec.disk_gib)

        self._connection.call(revert, changes=True)
        return None

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        def look(raw: Any) -> list[SnapshotInfo]:
            dom, _label = self._ours(raw, identity, ref)
            own = [domains.snapshot_info(snapshot) for snapshot in dom.listAllSnapshots(0) if snapshot.getName() != BASELINE]
            return sorted(own, key=lambda info: info.created)

        return self._connection.call(look)

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = domains.require_snapshot_name(name)

        def look(raw: Any) -> bool:
            dom, _label = self._ours(raw, identity, ref)
            return domains.find_snapshot(dom, wanted) is not None

        def take(raw: Any) -> None:
            dom, _label = self._ours(raw, identity, ref)
            frozen = domains.freeze(dom)
            try:
                dom.snapshotCreateXML(domain.snapshot_xml(wanted), 0)
            finally:
                if frozen:
                    domains.thaw(dom)

        # With the memory of a running machine in it, it may take a while.
        return None if self._connection.call(look) else self._in_background(take, TaskRef(ref, "job"))

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = domains.require_snapshot_name(name)

        def delete(raw: Any) -> None:
            dom, _label = self._ours(raw, identity, ref)
            if (snapshot := domains.find_snapshot(dom, wanted)) is not None:
                snapshot.delete(0)

        self._connection.call(delete, changes=True)
        return None

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)

        def resize(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            domains.require_off(dom)
            self._storage(raw).grow(ref, spec.disk_gib)
            self._define(raw, ref, label, spec)

        self._connection.call(resize, changes=True)
        return None

    # -- templates -------------------------------------------------------------------------

    def templates(self) -> list[TemplateInfo]:
        return self._connection.call(lambda raw: self._storage(raw).templates())

    def import_template(self, path: str, name: str) -> TemplateInfo:
        ref = template_ref(name)
        with TemporaryDirectory(prefix="labportal-import-") as folder:
            image = images.prepare(Path(path), Path(folder))
            # Sending a large image takes as long as it takes: it has a connection of its own.
            self._in_background(lambda raw: self._storage(raw).add_template(ref, image), wait=None)
        return next(template for template in self.templates() if template.ref == ref)

    def delete_template(self, ref: str) -> None:
        self._connection.call(lambda raw: self._storage(raw).delete_template(ref), changes=True)


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
