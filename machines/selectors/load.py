"""How much is under way on the clusters, and what that leaves room for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from machines.lifecycle import Kind, State
from machines.models import Cluster, Machine, Operation, OperationState, TemplateKind
from machines.providers.types import SEVERAL

# A limit that was lowered because the cluster was overloaded grows by one in so many seconds.
RECOVERY_SECONDS = 60
# A machine that has not answered by then is not booting; its guest may have no SSH server at all.
BOOTING_SECONDS = 180


def limit(cluster: Cluster, sort: str) -> int:
    """How much of one sort of work ("create", "power", or a sort of place) may be under way now: as
    staff set it, or less for a while after the cluster was overloaded."""
    if sort == "template":
        return min(limit(cluster, "create"), cluster.limit_per_template)
    if sort in _PLACES:
        return {"container": 1, "storage": cluster.limit_create_per_storage, "node": cluster.limit_create_per_node}.get(sort, cluster.limit_power_per_node)
    most = cluster.limit_create if sort == "create" else cluster.limit_power
    if (eased := cluster.eased.get(sort)) is None:
        return most
    recovered = int((timezone.now() - datetime.fromisoformat(eased["at"])).total_seconds() // RECOVERY_SECONDS)
    return int(min(most, eased["to"] + recovered))


# Where machines that are made, or switched on and off, get in each other's way, and which operations are there. A
# container that is cloned is locked meanwhile, so that its clones can only be made one after the other.
_PLACES = {
    "template": "machine__template_id",
    "container": "machine__template_id",
    "node": "machine__template__node",  # clones are the work of the node that has the template
    "storage": "machine__template__storage",
    "power node": "machine__node",
}
WHERE = (
    "kind",
    "machine__template_id",
    "machine__template__kind",
    "machine__template__ref",
    "machine__template__node",
    "machine__template__storage",
    "machine__node",
)
_CLONING = (Kind.PROVISION, Kind.REVERT)  # a revert may make it anew
Place = tuple[str, int | str]  # sort and name


def places(cluster: Cluster, slot: str, kind: str, template: int, template_kind: str, ref: str, template_node: str, storage: str, node: str) -> list[Place]:
    """The places with a limit where an operation with these columns (`WHERE`) works."""
    if slot in ("power", "boot"):
        return [("power node", node)] if node and cluster.limit_power_per_node else []
    if slot != "create" or kind not in _CLONING:
        return []
    # What is made of an OS template does not lock it: only of a container that is a template the ref is a number.
    found: list[Place] = [("container" if template_kind == TemplateKind.CONTAINER and ref.isdecimal() else "template", template)]
    if template_node and cluster.limit_create_per_node:
        found.append(("node", template_node))
    if storage and cluster.limit_create_per_storage:
        found.append(("storage", storage))
    return found


@dataclass(slots=True)
class Load:
    """One cluster: pieces of work under way by slot, machines that are on but do not answer yet."""

    cluster: Cluster
    alone: bool = True  # the only cluster that was asked about
    slots: Counter[str] = field(default_factory=Counter)
    held: Counter[Place] = field(default_factory=Counter)
    in_hand: int = 0  # operations a worker is at right now
    booting: int = 0

    @property
    def closed(self) -> bool:
        """No worker may be sent here now. A cluster that does not answer gets one to try it, and
        no cluster gets all workers while there are others: a dead one delays its own work only."""
        if not self.cluster.reachable:
            return self.in_hand >= 1
        return not self.alone and self.in_hand >= max(1, settings.WORKERS - 1)

    def under_way(self, sort: str) -> int:
        """How much of what `limit` bounds is being done. A start counts as power work."""
        return self.slots["create"] if sort == "create" else self.slots["power"] + self.slots["boot"]

    @property
    def full_slots(self) -> list[str]:
        row, full = self.cluster, []
        if self.under_way("create") >= limit(row, "create"):
            full.append("create")
        power_full = self.under_way("power") >= limit(row, "power")
        if power_full:
            full.append("power")
        if power_full or (row.limit_booting and self.booting + self.slots["boot"] >= row.limit_booting):
            full.append("boot")
        return full

    @property
    def full_places(self) -> list[Place]:
        # Of a template that is in several places each of them bears as much as one.
        return [(sort, name) for (sort, name), count in self.held.items() if count >= limit(self.cluster, sort) * (1 + str(name).count(SEVERAL))]

    def held_back(self) -> Q:
        """The operations of this cluster that must wait."""
        here = Q(machine__cluster_id=self.cluster.pk)
        if self.closed:
            return here
        waits = here & Q(slot__in=self.full_slots)
        for sort, name in self.full_places:
            works_there = Q(slot__in=["power", "boot"]) if sort == "power node" else Q(slot="create", kind__in=_CLONING)
            waits |= here & works_there & Q(**{_PLACES[sort]: name})
        if self.cluster.maintenance:
            waits |= here & Q(started_at=None)
        return waits

    def admit(self, *, slot: str, where: Iterable[Any], begun: bool) -> bool:
        """Whether an operation of this cluster may run now: `held_back` for a single one, which
        counts from then on. `where` are its columns `WHERE`."""
        here = places(self.cluster, slot, *where)
        if self.closed or slot in self.full_slots or (self.cluster.maintenance and not begun) or set(here) & set(self.full_places):
            return False
        self.slots[slot] += 1
        self.held.update(here)
        self.in_hand += 1
        return True


def loads(clusters: Iterable[Cluster]) -> dict[int, Load]:
    """The load of each of `clusters`, by its id."""
    rows = list(clusters)
    found = {cluster.pk: Load(cluster, alone=len(rows) == 1) for cluster in rows}
    under_way = (
        Operation.objects.filter(state__in=[OperationState.RUNNING, OperationState.WAITING], machine__cluster_id__in=list(found))
        .values_list("machine__cluster_id", "slot", "state", *WHERE)
        .order_by()
        .annotate(count=Count("pk"))
    )
    for cluster, slot, state, *where, count in under_way:
        load = found[cluster]
        load.slots[slot] += count
        for place in places(load.cluster, slot, *where):
            load.held[place] += count
        if state == OperationState.RUNNING:
            load.in_hand += count
    limited = [pk for pk, load in found.items() if load.cluster.limit_booting]
    if limited:
        for cluster, count in booting(limited).values_list("cluster_id").order_by().annotate(count=Count("pk")):
            found[cluster].booting = count
    return found


def booting(clusters: Iterable[int]) -> QuerySet[Machine]:
    recently = timezone.now() - timedelta(seconds=BOOTING_SECONDS)
    return Machine.objects.filter(cluster_id__in=list(clusters), state=State.RUNNING, answering_since=None, on_since__gt=recently)
