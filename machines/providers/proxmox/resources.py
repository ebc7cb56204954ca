"""/cluster/resources: what a cluster has, as one call tells it. Parsed with care: new guests lack half of their fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machines.providers.types import Power

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class GuestLine:
    """`name`, `template` and `status` are up to ten seconds late, and missing before they are first told."""

    vmid: int
    kind: str  # "qemu" or "lxc"
    node: str
    name: str | None = None
    status: str = "unknown"
    template: bool | None = None
    pool: str = ""
    lock: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def power(self) -> Power:
        return power(self.status)


@dataclass(frozen=True, slots=True)
class NodeLine:
    name: str
    online: bool
    cores: int = 0
    memory_mib: int | None = None  # both None where the account may not see them
    free_mib: int | None = None


@dataclass(frozen=True, slots=True)
class StorageLine:
    name: str
    node: str
    kind: str
    shared: bool
    active: bool
    content: frozenset[str]
    free_mib: int
    total_mib: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    guests: Mapping[int, GuestLine]
    nodes: Mapping[str, NodeLine]
    storages: tuple[StorageLine, ...]

    def online(self, node: str) -> bool:
        return node in self.nodes and self.nodes[node].online

    def shared(self, storage: str) -> bool:
        lines = [line for line in self.storages if line.name == storage]
        return bool(lines) and all(line.shared for line in lines)


def power(status: object) -> Power:
    """Of a status, or of a run state of QEMU: whatever has a process is on."""
    if status == "stopped":
        return Power.OFF
    return Power.UNKNOWN if status in (None, "", "unknown") else Power.ON


def parse(answer: object) -> Resources:
    guests: dict[int, GuestLine] = {}
    nodes: dict[str, NodeLine] = {}
    storages: list[StorageLine] = []
    for line in lines(answer):
        match line.get("type"):
            case "qemu" | "lxc" if (vmid := number(line.get("vmid"))) is not None:
                guests[vmid] = _guest(vmid, line)
            case "node" if line.get("node"):
                nodes[str(line["node"])] = _node(line)
            case "storage" if line.get("storage"):
                storages.append(_storage(line))
    return Resources(guests, nodes, tuple(storages))


def lines(answer: object) -> list[dict[str, Any]]:
    return [line for line in answer if isinstance(line, dict)] if isinstance(answer, list) else []


def number(value: object) -> int | None:
    """Numbers come as numbers or as text."""
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return None


def _guest(vmid: int, line: Mapping[str, Any]) -> GuestLine:
    template = line.get("template")
    return GuestLine(
        vmid=vmid,
        kind=str(line["type"]),
        node=str(line.get("node") or ""),
        name=str(line["name"]) if line.get("name") else None,
        status=str(line.get("status") or "unknown"),
        template=None if template is None else bool(number(template)),
        pool=str(line.get("pool") or ""),
        lock=str(line.get("lock") or ""),
        figures=line,
    )


def _node(line: Mapping[str, Any]) -> NodeLine:
    total, used = number(line.get("maxmem")), number(line.get("mem"))
    free = None if total is None or used is None else max(0, total - used) // MIB
    online = line.get("status") == "online"
    return NodeLine(str(line["node"]), online, number(line.get("maxcpu")) or 0, None if total is None else total // MIB, free)


def _storage(line: Mapping[str, Any]) -> StorageLine:
    total, used = number(line.get("maxdisk")) or 0, number(line.get("disk")) or 0
    return StorageLine(
        name=str(line["storage"]),
        node=str(line.get("node") or ""),
        kind=str(line.get("plugintype") or ""),
        shared=bool(number(line.get("shared"))),
        active=line.get("status") in ("available", None),
        content=frozenset(str(line.get("content") or "").split(",")),
        free_mib=max(0, total - used) // MIB,
        total_mib=total // MIB,
    )
