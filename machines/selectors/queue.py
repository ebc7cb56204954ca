"""Where an operation stands: its place in the queue, why it waits, and how long it takes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from machines.models import Operation, OperationState

from .load import WHERE, Load, limit, loads, places

SHORTEST = timedelta(seconds=5)  # what usually takes no time is not late after no time
_RECENT = 20  # past runs that tell how long the next one takes


@dataclass(frozen=True, slots=True)
class Standing:
    """`position` 1 is the next; 0: not queued. `reason` is a sentence, empty where nothing holds
    it up. `due` is when it is probably done, or was to be: then it takes longer than usual. None
    where there is nothing to go by."""

    position: int
    reason: str
    due: datetime | None


def standing(operation: Operation) -> Standing:
    """Where an active operation stands right now."""
    typical = typical_time(operation)
    if operation.state != OperationState.QUEUED:
        begun = operation.started_at or operation.created_at
        return Standing(0, "", None if typical is None else begun + typical)
    cluster = operation.machine.cluster
    load = loads([cluster])[cluster.pk]
    sooner = Q(priority__lt=operation.priority) | Q(priority=operation.priority, pk__lt=operation.pk)
    slots = ["power", "boot"] if operation.slot in ("power", "boot") else [operation.slot]
    ahead = Operation.objects.filter(sooner, state=OperationState.QUEUED, machine__cluster=cluster, slot__in=slots).count()
    due = None
    if typical is not None:
        abreast = limit(cluster, "create" if operation.slot == "create" else "power")
        due = _last_progress(operation) + typical * (1 + ahead // abreast)
    return Standing(ahead + 1, _reason(operation, load), due)


def _last_progress(operation: Operation) -> datetime:
    """When the queue it waits in last got shorter: where nothing ends, nothing comes nearer."""
    ended = Operation.objects.filter(kind=operation.kind, machine__cluster_id=operation.machine.cluster_id, finished_at__gt=operation.created_at)
    return ended.aggregate(last=Max("finished_at"))["last"] or operation.created_at


def typical_time(operation: Operation) -> timedelta | None:
    """The median of the last runs of its kind from the same template, or else on the same cluster."""
    done = Operation.objects.filter(kind=operation.kind, state=OperationState.SUCCEEDED, started_at__isnull=False, finished_at__isnull=False)
    for alike in (done.filter(machine__template_id=operation.machine.template_id), done.filter(machine__cluster_id=operation.machine.cluster_id)):
        times = alike.order_by("-pk").values_list("started_at", "finished_at")[:_RECENT]
        if runs := [(finished - started).total_seconds() for started, finished in times if started and finished]:
            return max(SHORTEST, timedelta(seconds=median(runs)))
    return None


def _reason(operation: Operation, load: Load) -> str:
    cluster = load.cluster
    if operation.not_before > timezone.now():
        return operation.message
    if not cluster.reachable:
        return _("The cluster does not answer at the moment. It goes on as soon as it does.")
    if cluster.maintenance and operation.started_at is None:
        return _("Nothing new is begun on this cluster during its maintenance.")
    if place := _full_place(operation, load):
        return _of_place(place, limit(cluster, place))
    if operation.slot not in load.full_slots:
        return ""
    if operation.slot == "create":
        most = limit(cluster, "create")
        return ngettext(
            "At most %(count)d machine at a time is made on this cluster.", "At most %(count)d machines at a time are made on this cluster.", most
        ) % {"count": most}
    if operation.slot == "boot" and "power" not in load.full_slots:
        most = cluster.limit_booting
        return ngettext("At most %(count)d machine boots at a time on this cluster.", "At most %(count)d machines boot at a time on this cluster.", most) % {
            "count": most
        }
    most = limit(cluster, "power")
    return ngettext(
        "At most %(count)d machine at a time is switched on or off on this cluster.",
        "At most %(count)d machines at a time are switched on or off on this cluster.",
        most,
    ) % {"count": most}


def _full_place(operation: Operation, load: Load) -> str:
    """The sort of place that is full and that this operation has to work at; empty for none. A
    template is not named where the cluster takes no more of all templates together."""
    cluster, full = load.cluster, set(load.full_places)
    if cluster.limit_per_template > limit(cluster, "create"):
        full = {(sort, name) for sort, name in full if sort != "template"}
    where = Operation.objects.filter(pk=operation.pk).values_list(*WHERE).get()
    return next((place[0] for place in places(cluster, operation.slot, *where) if place in full), "")


def _of_place(sort: str, most: int) -> str:
    match sort:
        case "template":
            text = ngettext(
                "At most %(count)d machine at a time is made from this template.", "At most %(count)d machines at a time are made from this template.", most
            )
        case "container":
            text = _("Containers are made from this template one after the other.")
        case "storage":
            text = ngettext(
                "At most %(count)d machine at a time is made on this storage.", "At most %(count)d machines at a time are made on this storage.", most
            )
        case "node":
            text = ngettext("At most %(count)d machine at a time is made on this node.", "At most %(count)d machines at a time are made on this node.", most)
        case _:
            text = ngettext(
                "At most %(count)d machine at a time is switched on or off on this node.",
                "At most %(count)d machines at a time are switched on or off on this node.",
                most,
            )
    return text % {"count": most}
