"""Where a new machine goes. Pure: what there is goes in, a place or a sentence why there is none comes out."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from machines.providers.errors import NoCapacity, TemplateMissing
from machines.providers.room import RESERVE_MIB, roomiest

from .resources import NodeLine, StorageLine

RECENT_SECONDS = 30.0  # until what was placed shows in the figures of its node
SPARE_DISK_MIB = 1024
SNAPSHOTS_OF_CONTAINERS = frozenset({"lvmthin", "zfspool", "rbd", "btrfs"})


@dataclass(frozen=True, slots=True)
class Source:
    """One copy of a template. `shared`: every node reaches all of its disks."""

    vmid: int
    node: str
    shared: bool


@dataclass(frozen=True, slots=True)
class Place:
    source: Source
    node: str

    @property
    def target(self) -> str:
        """What the clone call is to be told; empty where it stays at its template's node."""
        return "" if self.node == self.source.node else self.node


class Ledger:
    """What was lately placed where, by all threads of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._placed: deque[tuple[float, str, str, int]] = deque()

    def note(self, cluster: str, node: str, memory_mib: int) -> None:
        with self._lock:
            self._placed.append((self._clock(), cluster, node, memory_mib))

    def promised(self, cluster: str) -> dict[str, int]:
        """MiB by node."""
        promised: dict[str, int] = {}
        with self._lock:
            while self._placed and self._placed[0][0] < self._clock() - RECENT_SECONDS:
                self._placed.popleft()
            for _, of, node, memory_mib in self._placed:
                if of == cluster:
                    promised[node] = promised.get(node, 0) + memory_mib
        return promised


shared_ledger = Ledger()


def choose_node(
    nodes: Mapping[str, NodeLine],
    memory_mib: int,
    *,
    reachable: Collection[str],
    allowed: Collection[str] = (),
    promised: Mapping[str, int] | None = None,
    expected: Mapping[str, int] | None = None,
    reserve_mib: int = RESERVE_MIB,
) -> str:
    """The online node among `reachable` (and `allowed`, where given) with the most memory left. Nodes that do not tell
    their memory come last and are never full. What is `promised` (MiB by node) is taken; what is `expected` to be taken
    later, by machines that are off, fills no node but makes others come first. Raises NoCapacity."""
    promised, expected = promised or {}, expected or {}
    fit = [node for name, node in sorted(nodes.items()) if name in reachable and (not allowed or name in allowed)]
    if not fit:
        raise NoCapacity(
            f"of {sorted(reachable)}", message="The template is on no node of the cluster that machines may be made on. An administrator has to copy it."
        )
    online = [node for node in fit if node.online]
    if not online:
        names = ", ".join(node.name for node in fit)
        raise NoCapacity(f"offline: {names}", message=f"The node of the cluster that this machine can be made on is offline: {names}.")

    def left(node: NodeLine) -> int | None:
        return None if node.free_mib is None else node.free_mib - reserve_mib - promised.get(node.name, 0)

    told = {node.name: room - expected.get(node.name, 0) for node in online if (room := left(node)) is not None and room >= memory_mib}
    if told:
        return roomiest(told)
    silent = [node.name for node in online if node.free_mib is None]
    if silent:
        return min(silent, key=lambda name: (promised.get(name, 0) + expected.get(name, 0), name))
    best = max((left(node) or 0, node.name) for node in online)
    raise NoCapacity(
        f"{memory_mib} MiB wanted, {best[0]} MiB left on {best[1]}",
        message=f"No node of the cluster has {memory_mib} MiB of memory to spare at the moment.",
    )


def choose_source(
    sources: Iterable[Source],
    nodes: Mapping[str, NodeLine],
    memory_mib: int,
    *,
    allowed: Collection[str] = (),
    promised: Mapping[str, int] | None = None,
    expected: Mapping[str, int] | None = None,
    reserve_mib: int = RESERVE_MIB,
) -> Place:
    """Which copy of a template is cloned, and on which node the clone is to be. Raises TemplateMissing, NoCapacity."""
    copies = sorted(sources, key=lambda copy: (copy.vmid, copy.node))
    if not copies:
        raise TemplateMissing("no copy of it is left")
    # A template does its cloning on its own node: that has to be online even where the clone goes elsewhere.
    awake = [copy for copy in copies if copy.node in nodes and nodes[copy.node].online]
    reachable = {copy.node for copy in awake or copies}
    if any(copy.shared for copy in awake):
        reachable |= set(nodes)
    node = choose_node(nodes, memory_mib, reachable=reachable, allowed=allowed, promised=promised, expected=expected, reserve_mib=reserve_mib)
    here = [copy for copy in awake if copy.node == node]
    return Place((here or [copy for copy in awake if copy.shared])[0], node)


def choose_storage(storages: Iterable[StorageLine], node: str, content: str, need_mib: int, allowed: Collection[str] = ()) -> str:
    """The active storage of `node` for `content` ("images", "rootdir") with the most room. Raises NoCapacity."""
    fit = [line for line in storages if line.node == node and line.active and content in line.content and (not allowed or line.name in allowed)]
    roomy = [line for line in fit if line.free_mib >= need_mib + SPARE_DISK_MIB]
    if content == "rootdir":  # containers have snapshots only where the storage copies on write
        roomy = [line for line in roomy if line.kind in SNAPSHOTS_OF_CONTAINERS] or roomy
    if roomy:
        most = max(line.free_mib for line in roomy)
        return min(line.name for line in roomy if line.free_mib == most)
    free = max((line.free_mib for line in fit), default=0)
    raise NoCapacity(
        f"{need_mib} MiB wanted for {content} on {node}, {free} MiB free",
        message=f"No storage of the cluster has {max(1, need_mib // 1024)} GiB to spare on {node}." if fit else f"No storage on {node} may hold this machine.",
    )
