"""What pages of classes read. Never writes, never asks a hypervisor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, Exists, F, FilteredRelation, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.urls import reverse

from accounts.models import User
from machines.lifecycle import MOVING, STABLE, Kind, State
from machines.models import ACTIVE, Batch, Machine, Operation, OperationState
from machines.selectors.pages import Place

from .models import Enrolment, Invite, LabClass, PoolMachine

# -- the pool ----------------------------------------------------------------------------------

# What a free machine is worth to somebody who comes now: made before being made, being made
# before waiting to be made. A machine in another state is not given away.
_WORTH = {
    **dict.fromkeys((State.RUNNING, State.STOPPED, State.STARTING, State.STOPPING, State.RESTARTING), 0),
    **dict.fromkeys((State.REVERTING, State.UPDATING), 1),
    State.PROVISIONING: 2,
    State.PENDING: 3,
}
_READY = (State.RUNNING, State.STOPPED)
_NEEDS_ATTENTION = (State.FAILED, State.MISSING)


def current_places(lab_class: LabClass) -> QuerySet[PoolMachine]:
    """The machines the class has; not those that were taken out of it."""
    return lab_class.pool.filter(retired_at=None).exclude(machine__state=State.DESTROYED)


def free_places(lab_class: LabClass) -> QuerySet[PoolMachine]:
    """Machines nobody ever had, the best to give away first."""
    worth = Case(*(When(machine__state=state, then=Value(rank)) for state, rank in _WORTH.items()), output_field=IntegerField())
    free = lab_class.pool.filter(enrolment=None, assigned_at=None, retired_at=None, machine__state__in=list(_WORTH))
    return free.annotate(worth=worth).order_by("worth", "number").select_related("machine__cluster")


def unsettled(most: int) -> list[int]:
    """Ids of machines at rest whose class has yet to do something about them
    (`classes.services.pool.settle`). Those the cluster failed to destroy wait for a person."""
    in_pool = PoolMachine.objects.filter(retired_at=None)
    gone = in_pool.filter(machine__state=State.DESTROYED)
    needy = Enrolment.objects.filter(place=None, lab_class__archived_at=None).values("lab_class")
    to_give = in_pool.filter(enrolment=None, assigned_at=None, machine__state__in=list(_WORTH), lab_class__in=needy)
    last = Operation.objects.filter(machine=OuterRef("machine")).order_by("-pk")
    last_kind, last_state = (Coalesce(Subquery(last.values(name)[:1]), Value("")) for name in ("kind", "state"))
    spent = PoolMachine.objects.exclude(retired_at=None) | PoolMachine.objects.filter(enrolment=None).exclude(assigned_at=None)
    at_rest = spent.filter(machine__state__in=STABLE - {State.DESTROYED}).annotate(last_kind=last_kind, last_state=last_state)
    to_destroy = at_rest.exclude(last_kind=Kind.DESTROY, last_state=OperationState.FAILED)
    return [machine for places in (gone, to_give, to_destroy) for machine in places.order_by("pk").values_list("machine", flat=True)[:most]]


def waiting(lab_class: LabClass) -> QuerySet[Enrolment]:
    """Students without a machine, in the order they get one."""
    return lab_class.enrolments.filter(place=None).order_by("pk").select_related("student")


def position(enrolment: Enrolment) -> int:
    """1 is next. Only for somebody who waits."""
    return waiting(enrolment.lab_class).filter(pk__lte=enrolment.pk).count()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far many machines are. `waiting`: nothing was begun for them yet."""

    ready: int
    working: int
    waiting: int
    failed: int
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.ready + self.working + self.waiting + self.failed + self.cancelled

    @property
    def moving(self) -> bool:
        return bool(self.working or self.waiting)


def _counts(**conditions: Q) -> dict[str, Any]:
    return {name: Count("pk", filter=condition) for name, condition in conditions.items()}


def pool_progress(lab_class: LabClass) -> Progress:
    """Ready is what a student can use now: off or on, and nothing at work on it. One query."""
    active = FilteredRelation("machine__operations", condition=Q(machine__operations__state__in=ACTIVE))
    moving = Q(machine__state__in=MOVING)
    begun = Q(active__started_at__isnull=False)
    counts = (
        current_places(lab_class)
        .annotate(active=active)
        .aggregate(
            **_counts(
                ready=Q(machine__state__in=_READY),
                working=moving & begun,
                waiting=moving & ~begun,
                failed=Q(machine__state__in=_NEEDS_ATTENTION),
            )
        )
    )
    return Progress(**counts)


def batch_progress(batch: Batch) -> Progress:
    """How far what was asked for at once is. What failed first and was made good since counts by
    how its machine is now. One query."""
    over = Q(state__in=[OperationState.FAILED, OperationState.CANCELLED])
    at_work = Q(state__in=[OperationState.RUNNING, OperationState.WAITING])
    again = Q(machine__state__in=MOVING)
    bad = Q(machine__state__in=_NEEDS_ATTENTION)
    counts = batch.operations.aggregate(
        **_counts(
            waiting=Q(state=OperationState.QUEUED),
            working=at_work | (over & again),
            failed=over & bad,
            cancelled=Q(state=OperationState.CANCELLED) & ~again & ~bad,
            ready=Q(state=OperationState.SUCCEEDED) | (Q(state=OperationState.FAILED) & ~again & ~bad),
        )
    )
    return Progress(**counts)


def batch_operations(batch: Batch) -> QuerySet[Operation]:
    """Its operations, failures first, then what is at work."""
    rank = Case(
        When(state=OperationState.FAILED, machine__state__in=_NEEDS_ATTENTION, then=Value(0)),
        When(state__in=[OperationState.RUNNING, OperationState.WAITING], then=Value(1)),
        When(state=OperationState.QUEUED, then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )
    return batch.operations.annotate(rank=rank).order_by("rank", "machine__name", "pk").select_related("machine__cluster", "machine__owner")


SHOW = {
    "attention": Q(machine__state__in=_NEEDS_ATTENTION),
    "on": Q(machine__state=State.RUNNING),
    "off": Q(machine__state=State.STOPPED),
    "free": Q(enrolment=None),
    "left": Q(enrolment__left_group_at__isnull=False),
}
SORT: dict[str, list[Any]] = {
    "machine": ["number"],
    "person": [F("enrolment__student__last_name").asc(nulls_last=True), F("enrolment__student__username").asc(nulls_last=True), "number"],
    "state": ["machine__state", "number"],
    "seen": [F("enrolment__student__last_login").desc(nulls_last=True), "number"],
}


def places(lab_class: LabClass, *, show: str = "", search: str = "", sort: str = "") -> QuerySet[PoolMachine]:
    """The machines of the class with who has them, for its table. Unknown values mean all."""
    found = current_places(lab_class).select_related("machine__cluster", "enrolment__student").filter(SHOW.get(show, Q()))
    for word in search.split()[:5]:
        student = "enrolment__student__"
        found = found.filter(
            Q(machine__name__icontains=word)
            | Q(**{f"{student}username__icontains": word})
            | Q(**{f"{student}first_name__icontains": word})
            | Q(**{f"{student}last_name__icontains": word})
        )
    return found.order_by(*SORT.get(sort, SORT["machine"]))


def left_group(lab_class: LabClass) -> QuerySet[Enrolment]:
    """Students who are no longer in the group they were enrolled by and were not removed yet."""
    return lab_class.enrolments.exclude(left_group_at=None).order_by("pk").select_related("student")


def needing_attention(lab_class: LabClass) -> QuerySet[PoolMachine]:
    """Machines that failed, those that could not be deleted among them."""
    return lab_class.pool.filter(machine__state__in=_NEEDS_ATTENTION).select_related("machine__cluster", "enrolment__student").order_by("number")


def place_of_enrolment(enrolment: Enrolment) -> PoolMachine | None:
    return PoolMachine.objects.filter(enrolment=enrolment).select_related("machine").first()


def enrolments(lab_class: LabClass, *, machines: Sequence[UUID] = (), usernames: Sequence[str] = ()) -> QuerySet[Enrolment]:
    """Students by their machines or by name."""
    return lab_class.enrolments.filter(Q(place__machine__key__in=machines) | Q(student__username__in=usernames)).select_related("student")


def places_of_machines(machines: Sequence[Machine]) -> dict[int, Place]:
    """For `machines.selectors.pages.PLACES`."""
    found = PoolMachine.objects.filter(machine__in=machines).values_list("machine", "lab_class__name", "lab_class__key")
    return {machine: Place(name, reverse("classes:lab_class", args=[key])) for machine, name, key in found}


# -- classes and people ------------------------------------------------------------------------


def taught_by(user: User) -> QuerySet[LabClass]:
    """Classes the person runs: their own; staff run all."""
    if not user.teaches:
        return LabClass.objects.none()
    return LabClass.objects.all() if user.runs_portal else LabClass.objects.filter(teacher=user)


def visible_to(user: User) -> QuerySet[LabClass]:
    """Classes the person runs or is in."""
    found = LabClass.objects.filter(Q(pk__in=taught_by(user).values("pk")) | Q(pk__in=user.enrolments.values("lab_class")))
    return found.select_related("teacher", "template")


@dataclass(frozen=True, slots=True)
class Counts:
    machines: int = 0
    ready: int = 0
    failed: int = 0
    students: int = 0
    waiting: int = 0


def counts(classes: Sequence[LabClass]) -> dict[int, Counts]:
    """By the id of the class. Machines and students are counted apart, each in one query: a join
    of both would multiply them."""
    pools = PoolMachine.objects.filter(lab_class__in=classes, retired_at=None).exclude(machine__state=State.DESTROYED).order_by().values("lab_class")
    machines = pools.annotate(
        machines=Count("pk"),
        ready=Count("pk", filter=Q(machine__state__in=_READY)),
        failed=Count("pk", filter=Q(machine__state__in=_NEEDS_ATTENTION)),
    )
    people = Enrolment.objects.filter(lab_class__in=classes).order_by().values("lab_class")
    found: dict[int, dict[str, int]] = {lab_class.pk: {} for lab_class in classes}
    for row in [*machines, *people.annotate(students=Count("pk"), waiting=Count("pk", filter=Q(place=None)))]:
        found[row.pop("lab_class")].update(row)
    return {pk: Counts(**row) for pk, row in found.items()}


def joined_by(user: User) -> QuerySet[Enrolment]:
    """The classes a person is in, with their machine in each."""
    return user.enrolments.select_related("lab_class__teacher", "lab_class__template", "place__machine__cluster").order_by(
        "lab_class__archived_at", "lab_class__name"
    )


def enrolment_of(user: User, lab_class: LabClass) -> Enrolment | None:
    return (
        Enrolment.objects.select_related("lab_class__teacher", "place__machine__cluster", "place__machine__owner")
        .filter(lab_class=lab_class, student=user)
        .first()
    )


def open_invites(lab_class: LabClass) -> QuerySet[Invite]:
    """Those that were not revoked, the newest first; expired and used-up ones say so."""
    return lab_class.invites.filter(revoked_at=None).select_related("lab_class")


def roll(lab_class: LabClass) -> QuerySet[Enrolment]:
    """Who is in the class, with their machines."""
    return lab_class.enrolments.select_related("student", "place__machine")


def students(lab_class: LabClass) -> int:
    return lab_class.enrolments.count()


def is_enrolled(user: User, lab_class: LabClass) -> bool:
    return Enrolment.objects.filter(lab_class=lab_class, student=user).exists()


def class_of(batch: Batch) -> LabClass | None:
    """The class whose machines the work is on."""
    return LabClass.objects.filter(pool__machine__operations__batch=batch).first()


def batches_of(lab_class: LabClass) -> QuerySet[Batch]:
    """Work on machines of the class that is not over, newest first."""
    active = Operation.objects.filter(batch=OuterRef("pk"), state__in=ACTIVE, machine__pool_place__lab_class=lab_class)
    return Batch.objects.filter(Exists(active)).order_by("-pk")
