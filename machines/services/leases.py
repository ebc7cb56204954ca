"""Who works at an operation. A worker takes one with a lease and writes only while it holds it."""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from machines.models import Cluster, Operation, OperationState
from machines.selectors.load import loads


class LeaseLost(Exception):
    """Somebody else has the operation now. Write nothing more."""


def claim_next() -> Operation | None:
    """The next operation that may run, leased to the caller; None where nothing may.

    What was begun and only has to be looked at comes first, then a person's wishes, bulk work
    and refills, each by age, within the limits of the clusters. The attempt is counted here,
    before the work, so that an operation which kills its worker ends some day.
    """
    pk = _take(_candidates())
    return Operation.objects.select_related("machine__cluster", "machine__template", "machine__owner", "batch").get(pk=pk) if pk else None


@dataclass(frozen=True, slots=True)
class _Candidate:
    pk: int
    slot: str
    begun: bool
    template: int
    cluster: int


def _candidates() -> list[_Candidate]:
    """Those that may run next, as many as workers may be choosing among. Looked for without any
    lock: on a busy SQLite everybody waits for the shortest one."""
    due = Operation.objects.filter(state=OperationState.QUEUED, not_before__lte=timezone.now())
    if not due.exists():
        return []
    waits = Q(pk=None)
    for load in loads(Cluster.objects.all()).values():
        waits |= load.held_back()
    begun_first = Case(When(slot="", then=Value(0)), default=Value(1))
    columns = ("pk", "slot", "started_at", "machine__template_id", "machine__cluster_id")
    found = due.exclude(waits).order_by(begun_first, "priority", "pk").values_list(*columns)[: 2 * settings.WORKERS]
    return [_Candidate(pk, slot, started_at is not None, template, cluster) for pk, slot, started_at, template, cluster in found]


def _take(candidates: list[_Candidate]) -> int | None:
    """Lease the first of them that nobody else took meanwhile and that there is still room for.
    The clusters' rows are held for that, or two workers could take the last free place."""
    if not candidates:
        return None
    now = timezone.now()
    with transaction.atomic():
        clusters = list(Cluster.objects.select_for_update().order_by("pk"))
        load = loads(clusters)
        waiting = set(Operation.objects.filter(pk__in=[one.pk for one in candidates], state=OperationState.QUEUED).values_list("pk", "slot"))
        for one in candidates:
            if (one.pk, one.slot) in waiting and load[one.cluster].admits(slot=one.slot, template=one.template, begun=one.begun):
                taken = Operation.objects.filter(pk=one.pk, state=OperationState.QUEUED).update(
                    state=OperationState.RUNNING,
                    lease=uuid.uuid4().hex,
                    lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
                    attempt=F("attempt") + 1,
                    started_at=Coalesce("started_at", Value(now)),
                )
                if taken:
                    return one.pk
    return None


def take_over(operation: Operation) -> bool:
    """Lease an operation whose worker let its lease run out. False: somebody was quicker."""
    token, now = uuid.uuid4().hex, timezone.now()
    taken = Operation.objects.filter(pk=operation.pk, state=operation.state, lease=operation.lease, lease_until=operation.lease_until).update(
        state=OperationState.RUNNING, lease=token, lease_until=now + timedelta(seconds=settings.LEASE_SECONDS)
    )
    operation.refresh_from_db()
    return bool(taken)


def holds(operation: Operation) -> bool:
    """Whether the caller's lease is still good. Asked before every call that changes something."""
    return Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING, lease=operation.lease, lease_until__gt=timezone.now()).exists()


def write(operation: Operation, **columns: object) -> None:
    """Write to the operation's row, in the caller's transaction. Raises LeaseLost."""
    if not Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING, lease=operation.lease).update(**columns):
        raise LeaseLost(operation.key)
    for column, value in columns.items():
        setattr(operation, column, value)
