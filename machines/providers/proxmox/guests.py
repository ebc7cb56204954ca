"""Finding a guest and saying whose it is. Every reading of a description is a moment old at most when something is done on it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machines.providers.errors import Busy, ForeignMachine, InvalidSpec, Locked, ProviderError, TaskFailed, Unreachable, Unseen
from machines.providers.types import MachineIdentity, Presence, Sighting, Stage, TaskRef

from . import containers, label, machines, resources
from .answers import AlreadyThere, Forbidden, NotThere
from .client import Client
from .configs import BUILDING_LOCKS
from .resources import Resources
from .tasks import Tasks

FRESH_SECONDS = 2.0  # how long a reading by the same instance will do
CACHED_TEMPLATE_SECONDS = 60.0
HIBERNATED = "suspended"  # a lock that lasts, and that starting ends


@dataclass(frozen=True, slots=True)
class Guest:
    """`hidden`: its number is in use, and this account may not see by what; a clone joins its pool only when it is finished."""

    vmid: int
    kind: str = ""
    node: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    hidden: bool = False

    @property
    def path(self) -> str:
        return f"nodes/{self.node}/{self.kind}/{self.vmid}"

    @property
    def is_container(self) -> bool:
        return self.kind == "lxc"

    @property
    def lock(self) -> str:
        return str(self.config.get("lock") or "")

    @property
    def disk(self) -> str | None:
        """The key of its first disk."""
        if self.is_container:
            return "rootfs" if self.config.get("rootfs") else None
        return machines.disk(self.config)

    @property
    def volumes(self) -> dict[str, str]:
        return containers.mounts(self.config) if self.is_container else machines.drives(self.config)

    @property
    def label(self) -> tuple[str, str] | None:
        return label.parse(self.config.get("description"))

    @property
    def unfinished(self) -> bool:
        """Locked by what makes it; it may have no label yet."""
        return self.hidden or self.lock in BUILDING_LOCKS

    def belongs_to(self, identity: MachineIdentity) -> bool:
        return self.label == (identity.portal, identity.key)


@dataclass
class _Reading:
    guest: Guest | None
    at: float
    current: bool = True  # its configuration was not changed by us since


class Guests:
    def __init__(self, client: Client, tasks: Tasks) -> None:
        self._client, self._tasks = client, tasks
        self._read: dict[int, _Reading] = {}
        self._resources: tuple[float, Resources] | None = None
        self._templates: dict[int, tuple[float, Guest]] = {}

    def resources(self, max_age: float = 0.0) -> Resources:
        now = time.monotonic()
        if self._resources is None or now - self._resources[0] > max_age:
            self._resources = now, resources.parse(self._client.get("cluster/resources"))
        return self._resources[1]

    def look(self, ref: str, *, max_age: float = 0.0, current: bool = True) -> Guest | None:
        """What has this number; None where nothing has it. Raises Unreachable, Forbidden, Busy."""
        if not ref.isascii() or not ref.isdigit():
            return None
        vmid, now = int(ref), time.monotonic()
        known = self._read.get(vmid)
        if known and now - known.at <= max_age and (known.current or not current):
            return known.guest
        if len(self._read) > 1000:
            self._read = {number: kept for number, kept in self._read.items() if now - kept.at <= FRESH_SECONDS}
        guest = self._find(vmid)
        self._read[vmid] = _Reading(guest, now)
        return guest

    def _find(self, vmid: int) -> Guest | None:
        # Where it was last it most often is. All guests are asked for only where it is not: that costs the cluster much.
        last = self._resources[1].guests.get(vmid) if self._resources else None
        failed: ProviderError | None = None
        if last is not None:
            try:
                return self.read(vmid, last.kind, last.node)
            except (NotThere, Forbidden, Unreachable) as error:
                failed = error
        line = self.resources().guests.get(vmid)
        if isinstance(failed, Unreachable) and (last is None or line is None or line.node == last.node):
            raise failed
        if line is None:
            return Guest(vmid, hidden=True) if self._is_taken(vmid) else None
        try:
            return self.read(vmid, line.kind, line.node)
        except NotThere as error:
            raise Busy(error.detail, message="The machine is on its way to another node of the cluster.") from error

    def _is_taken(self, vmid: int) -> bool:
        """Whether the number is in use, by whatever."""
        try:
            self._client.get("cluster/nextid", vmid=vmid)
        except (AlreadyThere, InvalidSpec):
            return True
        return False

    def read(self, vmid: int, kind: str, node: str) -> Guest:
        config = self._client.get(f"nodes/{node}/{kind}/{vmid}/config")
        return Guest(vmid, kind, node, config if isinstance(config, dict) else {})

    def template(self, vmid: int, kind: str, node: str) -> Guest:
        """As `read`; the configuration of a template seldom changes."""
        known = self._templates.get(vmid)
        if known is None or time.monotonic() - known[0] > CACHED_TEMPLATE_SECONDS or (known[1].kind, known[1].node) != (kind, node):
            known = self._templates[vmid] = time.monotonic(), self.read(vmid, kind, node)
        return known[1]

    def changed(self, vmid: int) -> None:
        """By us: whose it is stays known, what its configuration says does not."""
        if vmid in self._read:
            self._read[vmid].current = False

    def forget(self, vmid: int) -> None:
        self._read.pop(vmid, None)

    # -- whose it is ---------------------------------------------------------------------------

    def ours(self, identity: MachineIdentity, ref: str, *, current: bool = False) -> Guest:
        """Raises TaskFailed where it is absent, else as `ours_or_none`."""
        guest = self.ours_or_none(identity, ref, current=current)
        if guest is None:
            raise TaskFailed(f"{ref} is not there", message="The machine is not on the cluster any more.")
        return guest

    def ours_or_none(self, identity: MachineIdentity, ref: str, *, current: bool = False) -> Guest | None:
        """Before anything is done to it. Raises ForeignMachine, Unseen, and Busy for what is still being made."""
        guest = self.look(ref, max_age=FRESH_SECONDS, current=current)
        if guest is None or (guest.belongs_to(identity) and not guest.unfinished):
            return guest
        sighting, _task = self.sight(identity, guest)
        self.forget(guest.vmid)
        match sighting:
            case Sighting(presence=Presence.ABSENT):
                return None
            case Sighting(presence=Presence.FOREIGN):
                raise ForeignMachine(sighting.detail)
            case Sighting(stage=Stage.BUILDING):
                raise Busy(f"{ref} is being made", message="The machine is still being made.")
            case Sighting(stage=Stage.BROKEN) if not guest.belongs_to(identity):
                # Without a label nobody knows for certain whose it is.
                self.require_no_stuck_lock(guest)
                raise Busy(sighting.detail, message="What is in the machine's place is locked on the cluster and has to be removed by an administrator.")
        return guest

    def require_no_stuck_lock(self, guest: Guest) -> None:
        """Raises Locked where a task that is gone left it locked; only an administrator can unlock it."""
        if guest.lock in ("", HIBERNATED):
            return
        moves = guest.lock == "migrate"  # its task is where it comes from
        if any(self._tasks.may_hold(guest.vmid, node) for node in (self._online() if moves else [guest.node])):
            return
        if self.read(guest.vmid, guest.kind, guest.node).lock == guest.lock:
            command = f"{'pct' if guest.is_container else 'qm'} unlock {guest.vmid}"
            told = f"The machine was left locked on the cluster ({guest.lock}), and no task is at work on it."
            raise Locked(command, message=f"{told} An administrator has to run “{command}” on {guest.node}.")

    def sight(self, identity: MachineIdentity, guest: Guest | None) -> tuple[Sighting, TaskRef | None]:
        """Whose it is and how far, without its power; with the task that is making it. Raises Unseen where that cannot be known, and Unreachable."""
        for last in (False, True):
            if guest is None:
                return Sighting(Presence.ABSENT), None
            if not guest.unfinished or (guest.label and not guest.belongs_to(identity)):
                break
            if task := self._tasks.making(guest.vmid, self._likely(guest)):
                return Sighting(Presence.OURS, Stage.BUILDING, node=task.node), task
            if not last:  # it may have been finished between the two looks
                self.forget(guest.vmid)
                guest = self.look(str(guest.vmid))
        assert guest is not None
        if guest.hidden:
            lacks = f"The portal's account on the cluster may not see what has the number {guest.vmid}: it lacks the privilege VM.Audit on /vms/{guest.vmid}"
            raise Unseen(f"{guest.vmid} is hidden", message=f"{lacks} or on its pool. It was not touched.")
        if (guest.label or not guest.unfinished) and not guest.belongs_to(identity):
            return Sighting(Presence.FOREIGN, node=guest.node, detail=f"{guest.vmid} " + ("is labelled otherwise" if guest.label else "has no label")), None
        if guest.unfinished:
            detail = f"{guest.vmid} was left locked ({guest.lock}) by a task that is gone"
            return Sighting(Presence.OURS, Stage.BROKEN, node=guest.node, detail=detail), None
        if guest.disk is None:
            return Sighting(Presence.OURS, Stage.BROKEN, node=guest.node, detail="it has no disk"), None
        return Sighting(Presence.OURS, Stage.READY, node=guest.node), None

    def _likely(self, guest: Guest) -> list[str]:
        return [guest.node] if guest.node else self._online()

    def _online(self) -> list[str]:
        return [node.name for node in self.resources(FRESH_SECONDS).nodes.values() if node.online]
