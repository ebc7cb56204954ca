"""How much is under way on the clusters, and what that leaves room for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Cluster, Machine, Operation, OperationState

# A limit that was lowered because the cluster was overloaded grows by one in so many seconds.
RECOVERY_SECONDS = 60
# A machine that has not answered by then is not booting; its guest may have no SSH server at all.
BOOTING_SECONDS = 180


def limit(cluster: Cluster, sort: str) -> int:
    """How much of one sort of work ("create", of it from one "template", "power") may be under way
    now: as staff set it, or less for a while after the cluster was overloaded."""
    if sort == "template":
        return min(limit(cluster, "create"), cluster.limit_per_template)
    most = cluster.limit_create if sort == "create" else cluster.limit_power
    if (eased := cluster.eased.get(sort)) is None:
        return most
    recovered = int((timezone.now() - datetime.fromisoformat(eased["at"])).total_seconds() // RECOVERY_SECONDS)
    return int(min(most, eased["to"] + recovered))


@dataclass(slots=True)
class Load:
    """One cluster: pieces of work under way by slot, machines that are on but do not answer yet."""

    cluster: Cluster
    alone: bool = True  # the only cluster that was asked about
    slots: Counter[str] = field(default_factory=Counter)
    creating: Counter[int] = field(default_factory=Counter)  # by template
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
    def full_templates(self) -> list[int]:
        most = limit(self.cluster, "template")
        return [template for template, count in self.creating.items() if count >= most]

    def held_back(self) -> Q:
        """The operations of this cluster that must wait."""
        here = Q(machine__cluster_id=self.cluster.pk)
        if self.closed:
            return here
        waits = here & Q(slot__in=self.full_slots)
        if full := self.full_templates:
            waits |= here & Q(slot="create", machine__template_id__in=full)
        if self.cluster.maintenance:
            waits |= here & Q(started_at=None)
        return waits

    def admit(self, *, slot: str, template: int, begun: bool) -> bool:
        """Whether an operation of this cluster may run now: `held_back` for a single one, which
        counts from then on."""
        if self.closed or slot in self.full_slots or (self.cluster.maintenance and not begun) or (slot == "create" and template in self.full_templates):
            return False
        self.slots[slot] += 1
        self.creating[template] += slot == "create"
        self.in_hand += 1
        return True


def loads(clusters: Iterable[Cluster]) -> dict[int, Load]:
    """The load of each of `clusters`, by its id."""
    rows = list(clusters)
    found = {cluster.pk: Load(cluster, alone=len(rows) == 1) for cluster in rows}
    under_way = (
        Operation.objects.filter(state__in=[OperationState.RUNNING, OperationState.WAITING], machine__cluster_id__in=list(found))
        .values_list("machine__cluster_id", "machine__template_id", "slot", "state")
        .order_by()
        .annotate(count=Count("pk"))
    )
    for cluster, template, slot, state, count in under_way:
        load = found[cluster]
        load.slots[slot] += count
        if slot == "create":
            load.creating[template] += count
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
