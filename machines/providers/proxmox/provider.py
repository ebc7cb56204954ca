"""The provider for Proxmox VE. `Cluster.config` is described in docs/proxmox.md; the ref of a machine is its VMID."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from machines.providers.base import Provider
from machines.providers.errors import Busy, ForeignMachine, InvalidSpec, NotRunning, ProviderError, TaskFailed, Unsupported
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
    Presence,
    ProviderSettings,
    Sighting,
    SnapshotInfo,
    Stage,
    StopMode,
    TaskRef,
    TaskStatus,
    TemplateInfo,
)

from . import access, addresses, adoption, consoles, machines, resources
from .answers import AlreadyRunning, AlreadyThere, Forbidden, NotThere
from .client import Client
from .configs import require_sizes
from .configuring import Configurer
from .guests import FRESH_SECONDS, Guest, Guests
from .inventory import Stocktaker
from .making import Maker, vmid_of
from .placement import shared_ledger
from .snapshots import BASELINE, listed, own_name, own_snapshots, pve_name
from .tasks import Tasks, task_ref
from .templates import Lister

SHUTDOWN_SECONDS = 600  # how long Proxmox VE waits for the guest; the caller has a deadline of its own
ENDPOINTS_SECONDS = 3.0
FIND_SECONDS = 20.0
VERB_SECONDS = 60.0
OVERRULES_SHUTDOWN = (8, 2)

Answer = TypeVar("Answer")
Given = ParamSpec("Given")


def bounded(verb: "Callable[Concatenate[ProxmoxProvider, Given], Answer]") -> "Callable[Concatenate[ProxmoxProvider, Given], Answer]":
    """All calls of a verb together take no longer than a provider may."""

    @wraps(verb)
    def call(provider: "ProxmoxProvider", /, *args: Given.args, **given: Given.kwargs) -> Answer:
        with provider._client.altogether(VERB_SECONDS):
            return verb(provider, *args, **given)

    return call


class ProxmoxProvider(Provider):
    kind: ClassVar[str] = "proxmox"
    capabilities: ClassVar[Capabilities] = Capabilities(
        snapshots=True,
        resize=True,
        endpoints=True,
        metrics=True,
        templates=True,
        screen=True,
        terminal=True,
        full_clone=True,
        adoption=True,
        numbered=True,
        inventory_seconds=10.0,
        poll_seconds=2.0,
    )

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._client = Client(settings.config, settings.secret)
        by_password = bool(self._client.token_name and settings.terminal_password)
        self._terminals = Client({**settings.config, "token_name": ""}, settings.terminal_password) if by_password else self._client
        self._tasks = Tasks(self._client)
        self._guests = Guests(self._client, self._tasks)
        self._stock = Stocktaker(self._client, self._guests, settings.config)
        self._maker = Maker(self._client, self._guests, settings.config, settings.cluster, shared_ledger)
        self._lister = Lister(self._client, self._guests, self._maker, settings.config)
        self._configurer = Configurer(self._client, settings.config)

    def close(self) -> None:
        self._client.close()
        self._terminals.close()

    # -- looking ---------------------------------------------------------------------------

    def check(self) -> list[Check]:
        return [*access.check(self._client, self.settings.config), *consoles.check(self._terminals), *self._stock.check()]

    @classmethod
    def certificates(cls, config: Mapping[str, Any]) -> list[Check]:
        return access.certificates(config)

    def inventory(self) -> Inventory:
        return self._stock.inventory(self.adopted)

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        with self._client.altogether(FIND_SECONDS):
            return self._find(identity, ref)

    def _find(self, identity: MachineIdentity, ref: str) -> Sighting:
        for last in (False, True):
            sighting, _task = self._guests.sight(identity, guest := self._guests.look(ref))
            if sighting.presence is not Presence.OURS or sighting.stage is not Stage.READY or guest is None:
                return sighting
            guest = self._guests.look(ref, max_age=FRESH_SECONDS)
            if guest is None:
                continue
            try:
                status = self._client.get(f"{guest.path}/status/current")
            except (NotThere, Forbidden) as error:
                if last:
                    raise Busy(error.detail) from error
                self._guests.forget(guest.vmid)  # destroyed or moved since the last line
                continue
            power = resources.power(status.get("status") if isinstance(status, dict) else None)
            return Sighting(Presence.OURS, Stage.READY, power, guest.node, snapshots=self._configurer.may_keep_snapshots(guest))
        return Sighting(Presence.ABSENT)

    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        return self._tasks.poll(tasks)

    # -- making ----------------------------------------------------------------------------

    @bounded
    def begin_create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)
        vmid = vmid_of(ref)
        try:  # a number that is taken is refused: nothing need be asked before
            task = self._maker.begin(identity, vmid, spec)
        except AlreadyThere as error:
            self._guests.forget(vmid)
            if (there := self._guests.look(ref)) is None:
                raise Busy(error.detail) from error
            return self._resumed(identity, there)
        finally:
            self._guests.forget(vmid)
        return task

    def _resumed(self, identity: MachineIdentity, there: Guest) -> TaskRef | None:
        sighting, task = self._guests.sight(identity, there)
        match sighting:
            case Sighting(presence=Presence.FOREIGN):
                raise ForeignMachine(sighting.detail)
            case Sighting(presence=Presence.OURS, stage=Stage.READY):
                return None
            case Sighting(presence=Presence.OURS, stage=Stage.BUILDING):
                return task
        self._guests.require_no_stuck_lock(there)
        raise Busy(sighting.detail or "it was there a moment ago")

    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)
        return self._on(identity, ref, lambda guest: self._configurer.configure(identity, guest, spec), current=True)

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        require_sizes(spec)
        return self._on(identity, ref, lambda guest: self._configurer.resize(identity, guest, spec), current=True)

    @bounded
    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        guest = self._guests.ours_or_none(identity, ref)
        if guest is None:
            return None
        try:
            self._guests.require_no_stuck_lock(guest)
            status = self._client.get(f"{guest.path}/status/current")
            if isinstance(status, dict) and status.get("status") == "running":
                if (guest := self._guests.ours_or_none(identity, ref)) is None:
                    return None
                if (stopping := self._force_off(guest)) is not None:
                    return stopping
            return self._remove(identity, ref)
        except NotThere as error:
            raise Busy(error.detail, message="The machine is on its way to another node of the cluster.") from error
        finally:
            self._guests.forget(vmid_of(ref))

    def _remove(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        """Nothing but what its configuration names: others may have volumes with its number."""
        self._guests.forget(vmid_of(ref))  # it may have become somebody else's since it was read
        guest = self._guests.ours_or_none(identity, ref)
        if guest is None:
            return None
        given: dict[str, Any] = {"purge": 1, "destroy-unreferenced-disks": 0}
        task = task_ref(self._client.delete(guest.path, **given), "destroy")
        return task and replace(task, disks=tuple(volume.partition(",")[0] for volume in guest.volumes.values()))

    # -- power -----------------------------------------------------------------------------

    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def start(guest: Guest) -> TaskRef | None:
            try:
                return task_ref(self._client.post(f"{guest.path}/status/start"), "start")
            except AlreadyRunning:
                return None

        return self._on(identity, ref, start)

    @bounded
    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        def stop(guest: Guest) -> TaskRef | None:
            if mode is StopMode.FORCE:
                return self._force_off(guest)
            try:
                return task_ref(self._client.post(f"{guest.path}/status/shutdown", timeout=SHUTDOWN_SECONDS), "stop")
            except NotRunning:
                return None

        if self._guests.ours_or_none(identity, ref) is None:
            return None
        return self._on(identity, ref, stop)

    def _force_off(self, guest: Guest) -> TaskRef | None:
        given = {"overrule-shutdown": 1} if self._client.version >= OVERRULES_SHUTDOWN else {}
        if not given:  # the machine is locked as long as it is being shut down
            self._tasks.end_shutdown(guest.vmid, guest.node)
        try:
            return task_ref(self._client.post(f"{guest.path}/status/stop", **given), "force")
        except NotRunning:
            return None

    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        def reboot(guest: Guest) -> TaskRef | None:
            # A container has no reset; it is shut down and started.
            verb = "reboot" if guest.is_container else "reset"
            return task_ref(self._client.post(f"{guest.path}/status/{verb}"), "reboot")

        return self._on(identity, ref, reboot)

    # -- disks -----------------------------------------------------------------------------

    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        def revert(guest: Guest) -> TaskRef | None:
            kept = {line["name"] for line in listed(self._client, guest)}
            wanted = pve_name(snapshot) if snapshot else BASELINE
            self._configurer.forget(guest.vmid)
            if wanted in kept:
                return task_ref(self._client.post(f"{guest.path}/snapshot/{wanted}/rollback"), "revert")
            if snapshot:
                raise TaskFailed(f"no snapshot {snapshot}", message="The machine has no such snapshot any more.")
            if any(own_name(name) for name in kept):
                raise TaskFailed("no baseline", message="The snapshot of the machine's beginning is gone. Delete its other snapshots to have it made anew.")
            return self._remove_to_make_anew(identity, guest, spec)

        return self._on(identity, ref, revert)

    def _remove_to_make_anew(self, identity: MachineIdentity, guest: Guest, spec: MachineSpec) -> TaskRef | None:
        """Where nothing was kept of its beginning. There is room for a new one before the old one goes."""
        self._maker.plan(identity, guest.vmid, spec)
        status = self._client.get(f"{guest.path}/status/current")
        if not isinstance(status, dict) or status.get("status") != "stopped":
            raise Busy("it is on", message="The machine was switched on meanwhile. Shut it down first.")
        try:
            return self._remove(identity, str(guest.vmid))
        finally:
            self._guests.forget(guest.vmid)

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        return self._on(identity, ref, lambda guest: own_snapshots(listed(self._client, guest)), changes=False)

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = pve_name(name)

        def take(guest: Guest) -> TaskRef | None:
            if any(line["name"] == wanted for line in listed(self._client, guest)):
                return None
            if not self._configurer.keeps_snapshots(guest):
                raise Unsupported(f"{guest.vmid}", message="The storage of this machine cannot keep snapshots.")
            return task_ref(self._client.post(f"{guest.path}/snapshot", snapname=wanted), "snapshot")

        return self._on(identity, ref, take)

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        wanted = pve_name(name)

        def delete(guest: Guest) -> TaskRef | None:
            if all(line["name"] != wanted for line in listed(self._client, guest)):
                return None
            return task_ref(self._client.delete(f"{guest.path}/snapshot/{wanted}"), "unsnapshot")

        return self._on(identity, ref, delete)

    # -- extras ----------------------------------------------------------------------------

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        guest = self._guests.ours(identity, ref)
        mac = addresses.mac_of(guest.config.get("net0"))
        known = (Endpoint("mac", mac, source="config"),) if mac else ()
        if not guest.is_container and not machines.has_agent(guest.config):
            return known
        ask = f"{guest.path}/interfaces" if guest.is_container else f"{guest.path}/agent/network-get-interfaces"
        try:
            with self._client.within(ENDPOINTS_SECONDS):
                told = addresses.endpoints(self._client.get(ask), guest.config.get("net0"), "container" if guest.is_container else "agent")
                return (*told, *known)
        except ProviderError:  # it is off, or there is no agent in it, or it takes its time
            return known

    def metrics(self) -> list[Metrics]:
        return self._stock.metrics()

    def templates(self) -> list[TemplateInfo]:
        return self._lister.listed()

    def may_have_template(self, ref: str) -> bool:
        return self._lister.may_be_there(ref)

    @bounded
    def adopt(self, identity: MachineIdentity, ref: str, guest: str) -> None:
        adoption.adopt(self._client, self._guests, identity, ref, guest)

    @bounded
    def release(self, identity: MachineIdentity, ref: str) -> None:
        adoption.release(self._client, self._guests, identity, ref)

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        def connect(guest: Guest) -> ConsoleTarget:
            consoles.require_on(self._client.get(f"{guest.path}/status/current"))
            client = self._terminals if kind is ConsoleKind.TERMINAL else self._client
            return consoles.open_console(client, self.settings.config, guest, kind)

        return self._on(identity, ref, connect, changes=False)

    # -- what the verbs share ------------------------------------------------------------------

    @bounded
    def _on(self, identity: MachineIdentity, ref: str, deed: Callable[[Guest], Answer], *, current: bool = False, changes: bool = True) -> Answer:
        """Do something to our machine, on whichever node it is. What is refused because it is not there (any more) did nothing."""
        for last in (False, True):
            guest = self._guests.ours(identity, ref, current=current)
            try:
                if changes:
                    self._guests.require_no_stuck_lock(guest)
                return deed(guest)
            except NotThere as error:
                self._guests.forget(guest.vmid)
                if last:
                    raise Busy(error.detail, message="The machine is on its way to another node of the cluster.") from error
            except Forbidden:
                self._guests.forget(guest.vmid)
                if last:
                    raise
            except Busy:
                self._guests.forget(guest.vmid)  # by a lock, perhaps
                raise
            finally:
                self._guests.changed(guest.vmid)
        raise InvalidSpec(ref)
