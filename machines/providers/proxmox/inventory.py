"""The whole cluster in one call, and whose each guest is from labels read once."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from machines.providers.errors import ProviderError, TaskFailed
from machines.providers.types import Check, DiskInfo, Inventory, MachineIdentity, Metrics, NodeInfo, ObservedMachine, Power, Stage

from .answers import Forbidden
from .client import Client
from .configs import BUILDING_LOCKS, numbers
from .guests import Guest, Guests
from .label import machine_name
from .placement import SNAPSHOTS_OF_CONTAINERS
from .resources import MIB, GuestLine, Resources, number

LAG_SECONDS = 15.0  # pvestatd tells every ten
READINGS = 100  # of configurations, in one pass
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
        self._adopted = {int(ref) for ref in config.get("adopted") or () if str(ref).isdecimal()}
        self._pool = str(config.get("pool") or "")
        self._storages = [str(name) for name in config.get("storages") or ()]
        self._known: dict[int, _Known] = {}

    def inventory(self) -> Inventory:
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
        """Of those that may be ours and are new. False: some could not be read in this pass."""
        left, whole, now = READINGS, True, time.monotonic()
        silent: set[str] = set()
        for vmid, line in machines.items():
            if not self._may_be_ours(line):
                continue
            known = self._known.get(vmid)
            same = known is not None and known.kind == line.kind and line.name in (None, known.name)
            if known is None and line.lock in BUILDING_LOCKS:
                self._known[vmid] = _Known(line.kind, line.name or "", None, now, building=True)
                continue
            if same and known is not None and now - known.at < self._believed(known, line):
                continue
            node = found.nodes.get(line.node)
            if left <= 0 or line.node in silent or node is None or not node.online:
                whole = whole and same  # what was known of it will do
                continue
            left -= 1
            try:
                self._remember(self._guests.read(vmid, line.kind, line.node), line, now)
            except (Forbidden, TaskFailed):
                self._known.pop(vmid, None)  # gone, or on its way to another node
                whole = False
            except ProviderError:
                silent.add(line.node)
                whole = whole and same
        return whole

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
