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

import contextlib
import hashlib
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import libvirt

from machines.providers.base import Provider
from machines.providers.errors import (
    Busy,
    ForeignMachine,
    InvalidSpec,
    NotRunning,
    OutcomeUnknown,
    ProviderError,
    TaskFailed,
    Unreachable,
    Unsupported,
)
from machines.providers.types import (
    Capabilities,
    Check,
    ConsoleKind,
    ConsoleTarget,
    Endpoint,
    Inventory,
    MachineIdentity,
    MachineSpec,
    Metrics,
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

from . import domain, images, kvm, seed
from .connection import Connection
from .domain import NAMESPACE, Definition, Label
from .errors_map import is_absent, translate
from .storage import BASELINE, TEMPLATE_PREFIX, Storage

PORTS = range(20000, 30000)  # of the host, for SSH; below the range the kernel hands out
PORT_ATTEMPTS = 10
VNC_SECONDS = 30  # a console password opens for so long; an open session goes on
AGENT_SECONDS = 3
LABEL_SECONDS = 10.0  # how long a label read by the inventory is believed
PROMPT_SECONDS = 5.0  # what takes longer than this is left to itself and polled

Answer = TypeVar("Answer")


class LibvirtProvider(Provider):
    kind = "libvirt"
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
        config = settings.config
        if not config.get("uri"):
            raise InvalidSpec("config has no uri", message="The cluster's settings do not name libvirt's address.")
        self._uri = str(config["uri"])
        self._pool = str(config.get("pool", "labportal"))
        self._template_pool = str(config.get("template_pool", ""))
        self._network = str(config.get("network", "user"))
        self._vnc_listen = str(config.get("vnc_listen", "127.0.0.1"))
        self._connection = Connection(self._uri)
        self._labels: dict[str, tuple[int, float, Label | None]] = {}  # by ref: power state, when read, label
        self._cpu_times: dict[str, tuple[float, int]] = {}
        self._accelerated: bool | None = None

    def close(self) -> None:
        self._connection.close()

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
            return Inventory(machines=tuple(machines), nodes=(node,))

        return self._connection.call(look)

    def _observe(self, dom: Any, state: int) -> ObservedMachine:
        ref = dom.UUIDString()
        known = self._labels.get(ref)
        if known is None or known[0] != state or time.monotonic() - known[1] > LABEL_SECONDS:
            known = (state, time.monotonic(), _label(dom))
            self._labels[ref] = known
        label, power = known[2], _power(state)
        return ObservedMachine(
            ref=ref,
            name=dom.name(),
            power=power,
            stage=Stage.BUILDING if label and label.building else Stage.READY,
            identity=label.identity if label else None,
            endpoints=_forwards(label) if power is Power.ON else (),
        )

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        def look(raw: Any) -> Sighting:
            dom = _lookup(raw, ref)
            if dom is None:
                return Sighting(Presence.ABSENT)
            label = _label(dom)
            if not self._is_ours(label, identity):
                return Sighting(Presence.FOREIGN)
            assert label is not None
            state, reason = dom.state(0)
            detail = "paused: the storage has no room or answers with errors" if (state, reason) == _PAUSED_BY_IO_ERROR else ""
            return Sighting(Presence.OURS, self._stage(raw, ref, label), _power(state), detail=detail)

        return self._connection.call(look)

    def _stage(self, raw: Any, ref: str, label: Label) -> Stage:
        if not label.building:
            return Stage.READY
        copied = self._storage(raw).full_disk_progress(ref, label.template)
        if copied is None:
            return Stage.BROKEN
        return Stage.READY if copied == 1.0 else Stage.BUILDING

    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        return self._connection.call(lambda raw: {task: self._poll(raw, task) for task in tasks}) if tasks else {}

    def _poll(self, raw: Any, task: TaskRef) -> TaskStatus:
        """Tasks are named by what is to be seen: any process can look."""
        try:
            dom = _lookup(raw, task.id)
            match task.kind:
                case "off":
                    done = dom is None or _power(dom.state(0)[0]) is Power.OFF
                    return TaskStatus(TaskState.SUCCEEDED if done else TaskState.RUNNING)
                case "copy" if dom is not None and (label := _label(dom)) is not None:
                    progress = self._storage(raw).full_disk_progress(task.id, label.template)
                    if progress is not None:
                        return TaskStatus(TaskState.SUCCEEDED if progress == 1.0 else TaskState.RUNNING, progress)
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
        _require_sizes(spec)
        content, digest = _seed(identity, spec)

        def create(raw: Any) -> bool:
            dom = _lookup(raw, ref)
            if dom is not None:
                if not self._is_ours(_label(dom), identity):
                    raise ForeignMachine(f"domain {ref} is not ours")
                return False
            storage = self._storage(raw)
            storage.template(spec.template)
            label = Label(identity, template=spec.template, ssh_port=self._port(), seed=digest, building=not spec.linked)
            seed_path = storage.seed_disk(ref, content) if content else ""
            if spec.linked:
                disk = storage.linked_disk(ref, spec.template, spec.disk_gib)
            else:
                disk = str(Path(seed_path or storage.template(spec.template)[0].path()).parent / f"{ref}.qcow2")
            raw.defineXML(self._definition(raw, ref, label, spec, disk, seed_path).to_xml())
            return not spec.linked

        if not self._connection.call(create, changes=True):
            return None
        # The label is there; the copy goes on at the daemon, whatever becomes of this process.
        self._in_background(lambda raw: self._storage(raw).begin_full_disk(ref, spec.template))
        return TaskRef(ref, "copy")

    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> None:
        _require_sizes(spec)
        content, digest = _seed(identity, spec)

        def configure(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            if _power(dom.state(0)[0]) is Power.ON:
                raise Busy(f"{ref} is on")
            defined = domain.parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            wanted = replace(label, template=spec.template, seed=digest, building=False)
            storage = self._storage(raw)
            if label.building:
                if self._stage(raw, ref, label) is not Stage.READY:
                    raise Busy(f"{ref} is still being copied")
                storage.grow(ref, spec.disk_gib)
                dom.snapshotCreateXML(domain.snapshot_xml(BASELINE), 0)
            if content and digest != label.seed:
                storage.seed_disk(ref, content)
            if wanted != label or (defined.cores, defined.memory_mib) != (spec.cores, spec.memory_mib):
                self._define(raw, ref, wanted, spec)

        self._connection.call(configure, changes=True)

    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def destroy(raw: Any) -> None:
            dom = _lookup(raw, ref)
            if dom is not None:
                if not self._is_ours(_label(dom), identity):
                    raise ForeignMachine(f"domain {ref} is not ours")
                _pull_the_plug(dom)
                dom.undefineFlags(_UNDEFINE_ALL)
            self._storage(raw).delete_all(ref)

        self._connection.call(destroy, changes=True)
        return None

    # -- power -----------------------------------------------------------------------------

    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def start(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            for attempt in range(PORT_ATTEMPTS):
                try:
                    if _power(dom.state(0)[0]) is Power.OFF:
                        dom.create()
                    return
                except libvirt.libvirtError as error:
                    if "host forwarding rule" not in str(error) or attempt + 1 == PORT_ATTEMPTS:
                        raise
                # Somebody else has the port by now: take another.
                label = replace(label, ssh_port=self._port())
                dom = self._relabel(raw, dom, label)

        self._connection.call(start, changes=True)
        return None

    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        def stop(raw: Any) -> TaskRef | None:
            dom = _lookup(raw, ref)
            if dom is None:
                return None
            if not self._is_ours(_label(dom), identity):
                raise ForeignMachine(f"domain {ref} is not ours")
            if mode is StopMode.FORCE:
                _pull_the_plug(dom)
            elif _power(dom.state(0)[0]) is Power.ON:
                dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                return TaskRef(ref, "off")
            return None

        return self._connection.call(stop, changes=True)

    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def reboot(raw: Any) -> None:
            dom, _found = self._ours(raw, identity, ref)
            _require_on(dom)
            # A reset asks no guest, so it always works; where an agent listens, the file systems
            # are brought to rest first and lose nothing.
            with contextlib.suppress(libvirt.libvirtError):
                dom.agentSetResponseTimeout(AGENT_SECONDS, 0)
                dom.fsFreeze(None, 0)
            try:
                dom.reset(0)
            except libvirt.libvirtError:
                with contextlib.suppress(libvirt.libvirtError):
                    dom.fsThaw(None, 0)
                raise

        self._connection.call(reboot, changes=True)
        return None

    # -- disks -----------------------------------------------------------------------------

    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        def revert(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            _require_off(dom)
            if not snapshot:
                found = _find_snapshot(dom, BASELINE) or _tell_of_baseline(dom)
            else:
                found = _find_snapshot(dom, _snapshot_name(snapshot))
                if found is None:
                    raise TaskFailed(f"no snapshot {snapshot}", message="The machine has no such snapshot any more.")
            dom.revertToSnapshot(found, 0)
            _pull_the_plug(dom)  # a snapshot of a running machine brings it back running
            # A snapshot brings the definition of its day back as well; ours is newer.
            self._define(raw, ref, label, spec)
            self._storage(raw).grow(ref, spec.disk_gib)

        self._connection.call(revert, changes=True)
        return None

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        def look(raw: Any) -> list[SnapshotInfo]:
            dom, _found = self._ours(raw, identity, ref)
            own = [_snapshot_info(snapshot) for snapshot in dom.listAllSnapshots(0) if snapshot.getName() != BASELINE]
            return sorted(own, key=lambda info: info.created)

        return self._connection.call(look)

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = _snapshot_name(name)

        def look(raw: Any) -> bool:
            dom, _found = self._ours(raw, identity, ref)
            return _find_snapshot(dom, wanted) is not None

        if self._connection.call(look):
            return None
        # With the memory of a running machine in it, it may take a while.
        return self._in_background(lambda raw: raw.lookupByUUIDString(ref).snapshotCreateXML(domain.snapshot_xml(wanted), 0), TaskRef(ref, "job"))

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = _snapshot_name(name)

        def delete(raw: Any) -> None:
            dom, _found = self._ours(raw, identity, ref)
            if (snapshot := _find_snapshot(dom, wanted)) is not None:
                snapshot.delete(0)

        self._connection.call(delete, changes=True)
        return None

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        _require_sizes(spec)

        def resize(raw: Any) -> None:
            dom, label = self._ours(raw, identity, ref)
            _require_off(dom)
            self._storage(raw).grow(ref, spec.disk_gib)
            self._define(raw, ref, label, spec)

        self._connection.call(resize, changes=True)
        return None

    # -- the guest -------------------------------------------------------------------------

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        def look(raw: Any) -> tuple[Endpoint, ...]:
            dom, label = self._ours(raw, identity, ref)
            if _power(dom.state(0)[0]) is not Power.ON:
                return ()
            found = list(_forwards(label))
            dom.agentSetResponseTimeout(AGENT_SECONDS, 0)
            sources = [(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, "lease"), (libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, "agent")]
            for source, name in sources:
                with contextlib.suppress(libvirt.libvirtError):
                    for interface in dom.interfaceAddresses(source).values():
                        for address in interface["addrs"] or []:
                            found.append(Endpoint("guest", str(address["addr"]), source=name))
            return tuple(found)

        return self._connection.call(look)

    def set_guest_password(self, identity: MachineIdentity, ref: str, username: str, password: str) -> None:
        def tell(raw: Any) -> None:
            dom, _found = self._ours(raw, identity, ref)
            _require_on(dom)
            dom.agentSetResponseTimeout(AGENT_SECONDS, 0)
            dom.setUserPassword(username, password, 0)

        self._connection.call(tell, changes=True)

    def screenshot(self, identity: MachineIdentity, ref: str) -> bytes:
        def take(raw: Any) -> bytes:
            dom, _found = self._ours(raw, identity, ref)
            _require_on(dom)
            stream = raw.newStream(0)
            if dom.screenshot(stream, 0, 0) != "image/png":
                stream.abort()
                raise Unsupported("this QEMU takes no pictures as PNG")
            picture = bytearray()
            while piece := stream.recv(262144):
                picture += piece
            stream.finish()
            return bytes(picture)

        return self._connection.call(take)

    def metrics(self) -> list[Metrics]:
        def look(raw: Any) -> list[Metrics]:
            # The bulk statistics wait for every QEMU, a hung one included; info() asks none.
            found, times = [], {}
            for dom in raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                ref, now = dom.UUIDString(), time.monotonic()
                try:
                    _state, _most, memory_kib, cores, cpu_time = dom.info()
                except libvirt.libvirtError:
                    continue  # went off meanwhile
                times[ref] = (now, cpu_time)
                before = self._cpu_times.get(ref)
                cpu = None
                if before is not None and cores and now > before[0]:
                    cpu = min(1.0, max(0.0, (cpu_time - before[1]) / 1e9 / (now - before[0]) / cores))
                found.append(Metrics(ref=ref, cpu=cpu, memory_mib=memory_kib / 1024))
            self._cpu_times = times
            return found

        return self._connection.call(look)

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        if kind is not ConsoleKind.SCREEN:
            raise Unsupported("text consoles go through SSH")

        def unlock(raw: Any) -> ConsoleTarget:
            dom, _found = self._ours(raw, identity, ref)
            _require_on(dom)
            password = secrets.token_urlsafe(6)  # eight characters: VNC looks at no more
            until = (datetime.now(UTC) + timedelta(seconds=VNC_SECONDS)).strftime("%Y-%m-%dT%H:%M:%S")
            dom.updateDeviceFlags(domain.vnc_password_xml(self._vnc_listen, password, until), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            port = domain.vnc_port(dom.XMLDesc(0))
            if not port:
                raise TaskFailed(f"domain {ref} has no VNC port")
            host = str(self.settings.config.get("console_host", self._vnc_listen))
            return ConsoleTarget(ConsoleKind.SCREEN, host=host, port=port, password=password)

        return self._connection.call(unlock, changes=True)

    # -- templates -------------------------------------------------------------------------

    def templates(self) -> list[TemplateInfo]:
        return self._connection.call(lambda raw: self._storage(raw).templates())

    def import_template(self, path: str, name: str) -> TemplateInfo:
        with TemporaryDirectory(prefix="labportal-import-") as folder:
            image = images.prepare(Path(path), Path(folder))
            ref = f"{TEMPLATE_PREFIX}{name}.qcow2"
            # Uploading a large image takes as long as it takes: it has a connection of its own.
            task = self._in_background(lambda raw: self._storage(raw).add_template(ref, image), wait=None)
            assert task is None
        return next(template for template in self.templates() if template.ref == ref)

    def delete_template(self, ref: str) -> None:
        self._connection.call(lambda raw: self._storage(raw).delete_template(ref), changes=True)

    # -- what they share -------------------------------------------------------------------

    def _storage(self, raw: Any) -> Storage:
        return Storage(raw, self._pool, self._template_pool, str(self.settings.config.get("pool_path", "")))

    def _is_ours(self, label: Label | None, identity: MachineIdentity) -> bool:
        return label is not None and label.identity.portal == self.settings.portal == identity.portal and label.identity.key == identity.key

    def _ours(self, raw: Any, identity: MachineIdentity, ref: str) -> tuple[Any, Label]:
        """The domain, once its label is seen to be ours. Raises TaskFailed, ForeignMachine."""
        dom = _lookup(raw, ref)
        if dom is None:
            raise TaskFailed(f"no domain {ref}", message="The cluster has no such machine any more.")
        label = _label(dom)
        if label is None or not self._is_ours(label, identity):
            raise ForeignMachine(f"domain {ref} is not ours")
        return dom, label

    def _kvm(self, raw: Any) -> bool:
        if self._accelerated is None:
            wanted = self.settings.config.get("accel", "")
            if wanted:
                self._accelerated = wanted == "kvm"
            elif _is_local(self._uri):
                # libvirt advertises KVM by the presence of /dev/kvm; only a guest that runs proves it.
                self._accelerated = kvm.usable()[0]
            else:
                self._accelerated = "<domain type='kvm'" in raw.getCapabilities()
        return self._accelerated

    def _port(self) -> int:
        return secrets.choice(PORTS) if self._network == "user" else 0

    def _definition(self, raw: Any, ref: str, label: Label, spec: MachineSpec, disk: str, seed_path: str) -> Definition:
        return Definition(
            ref=ref,
            label=label,
            cores=spec.cores,
            memory_mib=spec.memory_mib,
            disk=disk,
            seed_disk=seed_path,
            accelerated=self._kvm(raw),
            network=self._network,
            vnc_listen=self._vnc_listen,
        )

    def _define(self, raw: Any, ref: str, label: Label, spec: MachineSpec) -> Any:
        storage = self._storage(raw)
        seed_volume = storage.find(f"{ref}-seed.iso")
        seed_path = str(seed_volume.path()) if seed_volume is not None else ""
        return raw.defineXML(self._definition(raw, ref, label, spec, storage.disk_path(ref), seed_path).to_xml())

    def _relabel(self, raw: Any, dom: Any, label: Label) -> Any:
        """The same machine with another label, forwarded port included."""
        defined = domain.parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        sizes = MachineSpec(template=label.template, cores=defined.cores, memory_mib=defined.memory_mib)
        return self._define(raw, dom.UUIDString(), label, sizes)

    def _in_background(self, work: Callable[[Any], object], task: TaskRef | None = None, *, wait: float | None = PROMPT_SECONDS) -> TaskRef | None:
        """Do what may take long in a thread with a connection of its own. None when it is done
        within `wait` seconds (None: however long), else `task`. Raises what it failed with by then."""
        failed: list[ProviderError] = []

        def run() -> None:
            try:
                raw = libvirt.open(self._uri)
                try:
                    work(raw)
                finally:
                    raw.close()
            except libvirt.libvirtError as error:
                failed.append(translate(error))
            except ProviderError as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="libvirt-long", daemon=True)
        thread.start()
        thread.join(wait)
        if failed:
            raise OutcomeUnknown(failed[0].detail) if isinstance(failed[0], Unreachable) else failed[0]
        return task if thread.is_alive() else None


_UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)
_PAUSED_BY_IO_ERROR = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
_OFF_STATES = {libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED}


def _power(state: int) -> Power:
    if state == libvirt.VIR_DOMAIN_NOSTATE:
        return Power.UNKNOWN
    return Power.OFF if state in _OFF_STATES else Power.ON


def _lookup(raw: Any, ref: str) -> Any | None:
    try:
        uuid.UUID(ref)
    except ValueError:
        return None
    try:
        return raw.lookupByUUIDString(ref)
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise


def _label(dom: Any) -> Label | None:
    try:
        return Label.parse(dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA or is_absent(error):
            return None
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:  # transient: it has no stored definition
            return None
        raise


def _forwards(label: Label | None) -> tuple[Endpoint, ...]:
    return (Endpoint("ssh", "127.0.0.1", label.ssh_port, "forward"),) if label and label.ssh_port else ()


def _pull_the_plug(dom: Any) -> None:
    try:
        if _power(dom.state(0)[0]) is not Power.OFF:
            dom.destroyFlags(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # went off by itself meanwhile
            raise


def _require_on(dom: Any) -> None:
    if _power(dom.state(0)[0]) is not Power.ON:
        raise NotRunning(f"domain {dom.UUIDString()} is off")


def _require_off(dom: Any) -> None:
    if _power(dom.state(0)[0]) is not Power.OFF:
        raise Busy(f"domain {dom.UUIDString()} is on", message="The machine is on; this needs it off.")


def _require_sizes(spec: MachineSpec) -> None:
    if spec.cores < 1 or spec.memory_mib < 1 or (spec.disk_gib is not None and spec.disk_gib < 1):
        raise InvalidSpec(f"{spec.cores} cores, {spec.memory_mib} MiB, {spec.disk_gib} GiB")


def _seed(identity: MachineIdentity, spec: MachineSpec) -> tuple[bytes, str]:
    """The seed's image and its digest. The instance id follows the content, so that a guest that
    is given another one reads it again."""
    if spec.seed is None:
        return b"", ""
    digest = hashlib.sha256(repr(spec.seed).encode()).hexdigest()[:16]
    return seed.iso(spec.seed, f"{identity.key}-{digest}"), digest


def _snapshot_name(name: str) -> str:
    if name == BASELINE or not name.replace("-", "").isalnum():
        raise InvalidSpec(f"{name!r} is no name for a snapshot", message="A snapshot's name has letters, digits and dashes.")
    return name


def _find_snapshot(dom: Any, name: str) -> Any | None:
    try:
        return dom.snapshotLookupByName(name, 0)
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise


def _tell_of_baseline(dom: Any) -> Any:
    """The baseline is in the disk since it was made (see storage); libvirt learns of it now."""
    xml = domain.existing_snapshot_xml(BASELINE, dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    return dom.snapshotCreateXML(xml, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)


def _snapshot_info(snapshot: Any) -> SnapshotInfo:
    created, with_memory = domain.snapshot_facts(snapshot.getXMLDesc(0))
    return SnapshotInfo(snapshot.getName(), created, with_memory)


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _is_local(uri: str) -> bool:
    host = uri.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1].split(":", 1)[0]
    return host in ("", "localhost", "127.0.0.1", socket.gethostname())
