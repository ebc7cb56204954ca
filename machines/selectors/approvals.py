"""What requests' pages and the queue in the admin read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from machines.lifecycle import State
from machines.models import TO_DECIDE, Cluster, ClusterKind, Machine, MachineRequest, RequestState
from machines.providers import room
from machines.selectors.display import Shown, is_stale

# Of what a cluster has, so much should stay free: below it one more machine is said to make it tight.
_TIGHT = 0.1

_SHOWN = {
    RequestState.PENDING: ("moving", "hourglass-split"),
    RequestState.APPROVED: ("moving", ""),
    RequestState.READY: ("on", "check-circle-fill"),
    RequestState.FAILED: ("bad", "exclamation-triangle-fill"),
    RequestState.REJECTED: ("bad", "x-lg"),
    RequestState.WITHDRAWN: ("off", "dash-circle"),
}


def shown(request: MachineRequest) -> Shown:
    """The request's state as its badge says it."""
    if request.is_over:
        return Shown("lost", "clock", _("Its time is over"))
    if request.state == RequestState.READY and (request.machine is None or request.machine.state == State.DESTROYED):
        return Shown("off", "trash3", _("Its machine was deleted"))
    return Shown(*_SHOWN[RequestState(request.state)], str(request.get_state_display()))


def requests_of(user: User) -> QuerySet[MachineRequest]:
    """The person's own, newest first."""
    return MachineRequest.objects.filter(requester=user).select_related("template__cluster", "tier", "machine").order_by("-id")


def over(requests: QuerySet[MachineRequest]) -> QuerySet[MachineRequest]:
    """Those whose machine is past its last day."""
    return requests.filter(state=RequestState.READY, until__lt=timezone.localdate()).exclude(machine=None).exclude(machine__state=State.DESTROYED)


def waiting_for_staff() -> int:
    """How many requests staff have to decide."""
    return MachineRequest.objects.filter(state__in=TO_DECIDE).count()


# -- what a cluster has free ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB, of the hosts that machines are made on. `left` is by host, less the reserve and what is coming."""

    total: int
    left: Mapping[str, int]

    @property
    def free(self) -> int:
        return sum(max(0, room) for room in self.left.values())

    @property
    def largest(self) -> int:
        """Free on one host: no machine is spread over two."""
        return max(0, *self.left.values())

    def holds(self, sizes: Iterable[int]) -> bool:
        """Whether machines of `sizes` all find a host."""
        left = dict(self.left)
        for size in sizes:
            host = room.roomiest(left)
            left[host] -= size
            if left[host] < 0:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Room:
    """What one cluster has, as its last inventory saw the hosts that are on, less the reserve and
    what machines take that are being made and were not seen yet. None: nothing is known.

    Cores are shared: `cores_on` are those of machines that are on.
    """

    cluster: Cluster
    memory: Memory | None
    cores: int | None
    cores_on: int
    stale: bool

    def after(self, requests: Iterable[MachineRequest]) -> "Verdict":
        """How it would be with machines for all of `requests`."""
        tiers = [request.tier for request in requests]
        cores_on = self.cores_on + sum(tier.cores for tier in tiers)
        disk_left = None if self.cluster.disk_free_gib is None else self.cluster.disk_free_gib - sum(tier.disk_gib for tier in tiers)
        if self.memory is None:
            return Verdict(self, None, disk_left, cores_on, "unknown")
        left = self.memory.free - sum(tier.memory_mib for tier in tiers)
        too_much = not self.memory.holds(tier.memory_mib for tier in tiers)
        tight = left < _TIGHT * self.memory.total or (disk_left is not None and disk_left < 0)  # disks are filled little by little
        return Verdict(self, left, disk_left, cores_on, "full" if too_much else "tight" if tight else "enough")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`tone`: enough, tight, full, unknown."""

    room: Room
    memory_left: int | None  # MiB; below 0 is what is missing
    disk_left: int | None  # GiB, when the machines will have filled their disks
    cores_on: int
    tone: str

    @property
    def word(self) -> str:
        words = {"enough": _("Enough"), "tight": _("Tight"), "full": _("Not enough"), "unknown": _("Not known")}
        return words[self.tone]


@dataclass(slots=True)
class Rooms:
    """The room of clusters, each looked up once."""

    _known: dict[int, Room] = field(default_factory=dict)

    def of(self, cluster: Cluster) -> Room:
        if cluster.pk not in self._known:
            self._known[cluster.pk] = _room(cluster)
        return self._known[cluster.pk]


def _room(cluster: Cluster) -> Room:
    chosen = room.nodes(cluster.config)
    nodes = [node for node in cluster.nodes.all() if node.online and node.memory_total_mib and (not chosen or node.name in chosen)]
    here = Machine.objects.filter(cluster=cluster).order_by()
    on = here.filter(state__in=[State.RUNNING, State.STARTING, State.RESTARTING, State.PENDING, State.PROVISIONING])
    cores_on = on.aggregate(sum=Sum("cores"))["sum"] or 0
    memory = None
    if nodes:
        reserve = room.reserve_mib(cluster.config, room.RESERVE_MIB if cluster.kind == ClusterKind.PROXMOX else 0)
        coming = here.filter(state__in=[State.PENDING, State.PROVISIONING]).order_by("pk").values_list("memory_mib", flat=True)
        left = {node.name: node.memory_free_mib - reserve for node in nodes}
        memory = Memory(total=sum(node.memory_total_mib for node in nodes), left=_placed(left, coming))
    return Room(cluster, memory=memory, cores=sum(node.cores for node in nodes) or None, cores_on=cores_on, stale=is_stale(cluster))


def _placed(left: Mapping[str, int], sizes: Iterable[int]) -> dict[str, int]:
    """What is left by host once machines of `sizes` are on them, each on the one that has most left."""
    left = dict(left)
    for size in sizes:
        left[room.roomiest(left)] -= size
    return left
