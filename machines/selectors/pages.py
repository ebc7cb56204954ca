"""What the pages of machines and operations show, each in a fixed number of queries."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any, TypeVar

from django.db.models import Model, Prefetch, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import AuditEntry, User
from machines.lifecycle import Kind, State
from machines.models import ACTIVE, Cluster, Machine, Operation, OperationState
from machines.models.machine import STATE_CHOICES
from machines.models.operation import KIND_CHOICES

from .queue import Standing, standing

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine belongs, as its card says it: the class, with its page."""

    name: str
    url: str


# Apps above say where machines belong: by the id of the machine, in one query for all of them.
PLACES: list[Callable[[Sequence[Machine]], dict[int, Place]]] = []


def places(machines: Sequence[Machine]) -> dict[int, Place]:
    found: dict[int, Place] = {}
    for look_up in PLACES:
        found |= look_up(machines)
    return found


def _with_work(machines: QuerySet[Machine]) -> QuerySet[Machine]:
    """With what a card needs: cluster, template, owner, and `working`, the active operation in a list."""
    active = Operation.objects.filter(state__in=ACTIVE)
    return machines.select_related("cluster", "template", "owner").prefetch_related(Prefetch("operations", queryset=active, to_attr="working"))


def machines_of(user: User) -> QuerySet[Machine]:
    """The person's own, by name."""
    return _with_work(Machine.objects.filter(owner=user).exclude(state=State.DESTROYED)).order_by("name", "id")


def of_one_cluster(found: QuerySet[Row], path: str, wanted: str) -> tuple[QuerySet[Row], list[Cluster], str]:
    """What is `found`, of the cluster with the id `wanted` alone where it is of several; these, to choose from, and the chosen
    id. Both are empty where there is nothing to choose. `path` leads from a row to its cluster."""
    clusters = list(Cluster.objects.filter(pk__in=found.order_by().values(path)))
    if len(clusters) < 2:
        return found, [], ""
    if wanted not in {str(cluster.pk) for cluster in clusters}:
        return found, clusters, ""
    return found.filter(**{path: int(wanted)}), clusters, wanted


@dataclass(frozen=True, slots=True)
class MachineFilter:
    """What the address of the list of all machines may say."""

    text: str = ""
    state: str = ""
    cluster: str = ""


def all_machines(wanted: MachineFilter) -> QuerySet[Machine]:
    found = Machine.objects.filter(state=wanted.state) if wanted.state else Machine.objects.exclude(state=State.DESTROYED)
    if wanted.cluster.isdecimal():
        found = found.filter(cluster_id=int(wanted.cluster))
    if wanted.text:
        text = wanted.text
        found = found.filter(Q(name__icontains=text) | Q(owner__username__icontains=text) | Q(owner__last_name__icontains=text) | Q(ref=text))
    return found.select_related("cluster", "template", "owner").order_by("name", "id")


@dataclass(frozen=True, slots=True)
class OperationFilter:
    state: str = ""
    kind: str = ""
    cluster: str = ""
    text: str = ""


def all_operations(wanted: OperationFilter) -> QuerySet[Operation]:
    found = Operation.objects.select_related("machine", "machine__cluster", "requested_by", "batch").order_by("-id")
    if wanted.state == "active":
        found = found.filter(state__in=ACTIVE)
    elif wanted.state:
        found = found.filter(state=wanted.state)
    if wanted.kind:
        found = found.filter(kind=wanted.kind)
    if wanted.cluster.isdecimal():
        found = found.filter(machine__cluster_id=int(wanted.cluster))
    if wanted.text:
        found = found.filter(Q(machine__name__icontains=wanted.text) | Q(requested_by__username__icontains=wanted.text))
    return found


def operation_states() -> list[tuple[str, str]]:
    return [("active", _("Under way")), *((value, str(label)) for value, label in OperationState.choices)]


def operation_kinds() -> list[tuple[str, str]]:
    return [(str(value), str(label)) for value, label in KIND_CHOICES]


def machine_states() -> list[tuple[str, str]]:
    return [(str(value), str(label)) for value, label in STATE_CHOICES]


# -- one operation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Working:
    """An operation as a page follows it."""

    operation: Operation
    events: list[Any]
    standing: Standing | None

    @property
    def percent(self) -> int:
        return round(100 * self.operation.progress)


def follow(operation: Operation) -> Working:
    return Working(operation, list(operation.events.all()), standing(operation) if operation.is_active else None)


def working_on(machine: Machine) -> Working | None:
    """What is being done to the machine right now."""
    operation = machine.operations.filter(state__in=ACTIVE).select_related("requested_by").first()
    if operation is None:
        return None
    operation.machine = machine
    return follow(operation)


# -- what happened -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a timeline: an operation, or something else that was recorded."""

    at: datetime
    tone: str  # good, bad, moving or empty
    title: str
    who: str = ""
    text: str = ""
    operation: Operation | None = None
    opened: str = ""  # the console: screen, terminal
    openings: Sequence["Happening"] = ()  # of a run of openings: each of them, newest first

    @property
    def seconds(self) -> float | None:
        if self.operation is None or self.operation.finished_at is None or self.operation.started_at is None:
            return None
        return (self.operation.finished_at - self.operation.started_at).total_seconds()


_TONES = {OperationState.SUCCEEDED: "good", OperationState.FAILED: "bad", OperationState.CANCELLED: ""}


# What is recorded of a machine beside its operations.
_RECORDED = ("machine.credentials", "machine.seen_on", "machine.seen_off", "machine.not_found", "console.open", "pool.assign")


def _recorded(entry: AuditEntry) -> Happening:
    tone = ""
    match entry.action, entry.outcome:
        case "machine.seen_on", _outcome:
            title = _("Switched on outside the portal")
        case "machine.seen_off", _outcome:
            title = _("Switched off, from inside or outside the portal")
        case "machine.not_found", _outcome:
            title, tone = _("Not found on the cluster any more"), "bad"
        case "console.open", "ok":
            title = _("Screen opened") if entry.data.get("kind") == "screen" else _("Terminal opened")
        case "console.open", _outcome:
            title, tone = _("A console was refused"), "bad"
        case "pool.assign", _outcome:
            title = _("Given to %(student)s") % {"student": entry.data.get("student", "")}
        case _other:
            title = _("User and password shown")
    to_oneself = entry.actor is not None and entry.data.get("student") == entry.actor.get_username()
    opened = str(entry.data.get("kind", "")) if (entry.action, entry.outcome) == ("console.open", "ok") else ""
    who = "" if to_oneself or entry.actor_id is None else str(entry.actor or entry.actor_name)
    return Happening(at=entry.at, tone=tone, title=title, who=who, opened=opened)


def _run(openings: Sequence[Happening]) -> Happening:
    """Consoles opened by one person with nothing in between, as one entry at the time of the newest."""
    newest, count = openings[0], len(openings)
    if count == 1:
        return newest
    match {opening.opened for opening in openings}:
        case kinds if kinds == {"screen"}:
            title = ngettext("Screen opened %(count)d time", "Screen opened %(count)d times", count)
        case kinds if kinds == {"terminal"}:
            title = ngettext("Terminal opened %(count)d time", "Terminal opened %(count)d times", count)
        case _both:
            title = ngettext("Screen or terminal opened %(count)d time", "Screen or terminal opened %(count)d times", count)
    return replace(newest, title=title % {"count": count}, openings=openings)


def _in_runs(happened: Iterable[Happening]) -> list[Happening]:
    found: list[Happening] = []
    for (is_opening, _who), group in groupby(happened, key=lambda entry: (bool(entry.opened), entry.who)):
        entries = list(group)
        found += [_run(entries)] if is_opening else entries
    return found


def overview(machine: Machine, *, length: int = 12) -> tuple[list[Happening], datetime | None]:
    """The newest of `timeline`, runs of consoles opened counted in one entry each."""
    happened, earlier = timeline(machine, length=5 * length)
    runs = _in_runs(happened)
    if len(runs) <= length:
        return runs, earlier
    last = runs[length - 1]
    return runs[:length], (last.openings or [last])[-1].at


def timeline(machine: Machine, *, before: datetime | None = None, length: int = 12) -> tuple[list[Happening], datetime | None]:
    """What happened to the machine, newest first, and the moment to ask from for what came earlier."""
    operations = machine.operations.select_related("requested_by").order_by("-created_at")
    records = AuditEntry.objects.filter(object_type="machine", object_id=str(machine.key), action__in=_RECORDED).select_related("actor").order_by("-at")
    if before is not None:
        operations, records = operations.filter(created_at__lt=before), records.filter(at__lt=before)
    happened = [
        Happening(
            at=operation.created_at,
            tone=_TONES.get(OperationState(operation.state), "moving"),
            title=str(operation.get_kind_display()),
            who=str(operation.requested_by or ""),
            text=operation.message if operation.state != OperationState.SUCCEEDED else "",
            operation=operation,
        )
        for operation in operations[: length + 1]
    ]
    happened += [_recorded(entry) for entry in records[: length + 1]]
    happened.sort(key=lambda happening: happening.at, reverse=True)
    return happened[:length], (happened[length - 1].at if len(happened) > length else None)


def changed_since(machine: Machine, snapshot: str = "") -> datetime | None:
    """From when on a revert throws away what was done: since the machine was made, or the snapshot
    taken, or since it was last brought back there."""
    reverted = machine.operations.filter(kind=Kind.REVERT, state=OperationState.SUCCEEDED, params__snapshot=snapshot).order_by("-id").first()
    made = machine.snapshots.filter(name=snapshot).values_list("created_at", flat=True).first() if snapshot else machine.made_at
    moments = [moment for moment in (made, reverted.finished_at if reverted else None) if moment is not None]
    return max(moments, default=None)


def topics_of(machines: Iterable[Machine]) -> list[str]:
    """What a page of these machines listens to: them, their clusters, and what is being done."""
    machines = list(machines)
    topics = [f"machine:{machine.key}" for machine in machines]
    topics += [f"operation:{operation.key}" for machine in machines for operation in getattr(machine, "working", [])]
    return topics + sorted({f"cluster:{machine.cluster_id}" for machine in machines})
