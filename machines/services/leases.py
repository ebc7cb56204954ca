"""Who works at an operation. A worker takes one with a lease and writes only while it holds it."""

import uuid
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
    now = timezone.now()
    due = Operation.objects.filter(state=OperationState.QUEUED, not_before__lte=now)
    if not due.exists():
        return None
    with transaction.atomic():
        # Whoever chooses holds the clusters' rows, or two could take the last free place.
        clusters = Cluster.objects.select_for_update().filter(pk__in=list(due.values_list("machine__cluster_id", flat=True).distinct())).order_by("pk")
        waits = Q(pk=None)
        for load in loads(clusters).values():
            waits |= load.held_back()
        begun_first = Case(When(slot="", then=Value(0)), default=Value(1))
        chosen = due.exclude(waits).order_by(begun_first, "priority", "pk").values_list("pk", flat=True).first()
        if chosen is None:
            return None
        token = uuid.uuid4().hex
        taken = Operation.objects.filter(pk=chosen, state=OperationState.QUEUED).update(
            state=OperationState.RUNNING,
            lease=token,
            lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
            attempt=F("attempt") + 1,
            started_at=Coalesce("started_at", Value(now)),
        )
        if not taken:
            return None
        related = ("machine__cluster", "machine__template", "machine__owner", "batch")
        return Operation.objects.select_related(*related).get(pk=chosen)


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
