"""The whole cluster in one call, and whose each guest is from labels read once."""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from machines.providers.errors import ProviderError, TaskFailed, Unreachable
from machines.providers.types import Check, DiskInfo, Inventory, MachineIdentity, Metrics, NodeInfo, ObservedMachine, Power, Stage

from .answers import Forbidden
from .breakers import Breakers
from .client import Client
from .configs import BUILDING_LOCKS, numbers
from .guests import Guest, Guests
from .label import machine_name
from .placement import SNAPSHOTS_OF_CONTAINERS
from .resources import MIB, GuestLine, Resources, number

LAG_SECONDS = 15.0  # pvestatd tells every ten
# Of configurations, in one pass: of new machines, again of some, and how long for one and for all of them.
READINGS, STALE_READINGS = 100, 20
READING_SECONDS, READINGS_SECONDS = 3.0, 5.0
BELIEVED_SECONDS = 600.0  # somebody may have changed a description
BUILDING_SECONDS = 10.0  # between looks at one that is being made: most have their label when they are finished
_OURS = re.compile(r".*-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class _Known:
    kind: str
    name: str
    label: tuple[str, str] | None
    at: float
    building: bool = False


class Stocktaker:
    def __init__(self, client: Client, guests: Guests, config: Mapping[str, Any]) -> None:
        self._client, self._guests = client, guests
        self._ours = numbers(config)
        self._adopted: set[int] = set()
        self._pool = str(config.get("pool") or "")
        self._storages = [str(name) for name in config.get("storages") or ()]
        self._known: dict[int, _Known] = {}
        self._nodes = Breakers()

    def inventory(self, adopted: Collection[str] = ()) -> Inventory:
        """`adopted`: numbers out of the range that are ours all the same."""
        self._adopted = {int(ref) for ref in adopted if ref.isdecimal()}
        found = self._guests.resources()
        machines = {vmid: line for vmid, line in found.guests.items() if not line.template}
        whole = self._read_labels(machines, found)
        self._known = {vmid: known for vmid, known in self._known.items() if vmid in machines}
        observed = [self._observe(line) for line in machines.values()]
        nodes = tuple(NodeInfo(node.name, node.online, node.cores, node.memory_mib or 0, node.free_mib or 0) for node in found.nodes.values())
        return Inventory(tuple(observed), nodes, whole=whole, lag=LAG_SECONDS, disk=self._disk(found))

    def _disk(self, found: Resources) -> DiskInfo | None:
        """One that nodes share is counted once. Storages on the same disks are counted twice: their sizes do not say that."""
        lines = {
            (line.name, "" if line.shared else line.node): line
            for line in found.storages
            if line.active and line.total_mib and line.content & {"images", "rootdir"} and (not self._storages or line.name in self._storages)
        }
        if not lines:
            return None
        return DiskInfo(sum(line.free_mib for line in lines.values()) // 1024, sum(line.total_mib for line in lines.values()) // 1024)

    def _read_labels(self, machines: Mapping[int, GuestLine], found: Resources) -> bool:
        """Of those that may be ours and are new, and again of a few that were read long ago. False: some new ones could not be read in this pass."""
        now = time.monotonic()
        new, waited_for, stale = self._unread(machines, now)
        stale.sort(key=lambda line: self._known[line.vmid].at)
        unknown = {line.vmid for line in new}
        for line in (*[*waited_for, *new][:READINGS], *stale[:STALE_READINGS]):
            if time.monotonic() - now > READINGS_SECONDS or not found.online(line.node) or not self._nodes.allows(line.node):
                continue
            try:
                with self._client.within(READING_SECONDS):
                    self._remember(self._guests.read(line.vmid, line.kind, line.node), line, now)
                unknown.discard(line.vmid)
            except (Forbidden, TaskFailed):  # gone, or on its way to another node
                self._known.pop(line.vmid, None)
                unknown.add(line.vmid)
            except Unreachable as error:
                self._nodes.failed(line.node, error, certain=True)
                continue
            except ProviderError:
                pass
            self._nodes.answered(line.node)
        return not unknown

    def _unread(self, machines: Mapping[int, GuestLine], now: float) -> tuple[list[GuestLine], list[GuestLine], list[GuestLine]]:
        """Those of which nothing is known, those whose label should be there by now, and those read long ago."""
        new: list[GuestLine] = []
        waited_for: list[GuestLine] = []
        stale: list[GuestLine] = []
        for vmid, line in machines.items():
            if not self._may_be_ours(line):
                continue
            known = self._known.get(vmid)
            if known is None and line.lock in BUILDING_LOCKS:
                self._known[vmid] = _Known(line.kind, line.name or "", None, now, building=True)
            elif known is None or known.kind != line.kind or line.name not in (None, known.name):
                new.append(line)
            elif now - known.at >= (believed := self._believed(known, line)):
                (stale if believed == BELIEVED_SECONDS else waited_for).append(line)
        return new, waited_for, stale

    def _believed(self, known: _Known, line: GuestLine) -> float:
        """For how many seconds its label need not be read again."""
        if known.label is None and known.building:
            return BUILDING_SECONDS if line.lock in BUILDING_LOCKS else 0.0
        if known.label is None and line.vmid in self._adopted:  # it is being written
            return 0.0
        return BELIEVED_SECONDS

    def _may_be_ours(self, line: GuestLine) -> bool:
        numbered = line.vmid in self._ours or line.vmid in self._adopted
        return numbered or bool(self._pool and line.pool == self._pool) or bool(line.name and _OURS.fullmatch(line.name))

    def _remember(self, guest: Guest, line: GuestLine, now: float) -> None:
        name = str(guest.config.get("hostname" if guest.is_container else "name") or "")
        if guest.config.get("template"):
            self._known.pop(guest.vmid, None)
            return
        # A name that is told late must not look like a new one.
        self._known[guest.vmid] = _Known(guest.kind, line.name or name, guest.label, now, guest.lock in BUILDING_LOCKS)

    def _observe(self, line: GuestLine) -> ObservedMachine:
        known = self._known.get(line.vmid)
        identity = None
        if known and known.label:
            portal, key = known.label
            identity = MachineIdentity(key=key, name=machine_name(line.name or known.name, key), portal=portal)
        return ObservedMachine(
            ref=str(line.vmid),
            name=line.name or (known.name if known else "") or f"VM {line.vmid}",
            power=line.power,  # of a new one nothing is told for some seconds
            stage=Stage.BUILDING if line.lock in BUILDING_LOCKS else Stage.READY,
            identity=identity,
            node=line.node,
            kind="container" if line.kind == "lxc" else "vm",
        )

    def check(self) -> list[Check]:
        """Which storages keep no snapshots of containers, for whoever chooses among them. Never raises."""
        try:
            storages = self._guests.resources(1.0).storages
        except ProviderError:
            return []  # why nothing is answered is said elsewhere
        without = sorted({line.name for line in storages if "rootdir" in line.content and line.kind not in SNAPSHOTS_OF_CONTAINERS})
        detail = f"Containers on {', '.join(without)} keep no snapshots: reverting one makes it anew." if without else ""
        return [Check("Snapshots of containers", True, detail)]

    def metrics(self) -> list[Metrics]:
        found = self._guests.resources(1.0)
        return [_metrics(line) for line in found.guests.values() if line.power is Power.ON and not line.template]


def _metrics(line: GuestLine) -> Metrics:
    told = line.figures
    cpu, memory = told.get("cpu"), number(told.get("mem"))
    return Metrics(
        ref=str(line.vmid),
        cpu=min(1.0, max(0.0, float(cpu))) if isinstance(cpu, int | float) else None,
        memory_mib=memory / MIB if memory else None,
        disk_read_bytes=number(told.get("diskread")),
        disk_write_bytes=number(told.get("diskwrite")),
        net_rx_bytes=number(told.get("netin")),
        net_tx_bytes=number(told.get("netout")),
    )
