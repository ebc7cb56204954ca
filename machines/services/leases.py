"""Who works at an operation. A worker takes one with a lease and writes only while it holds it."""

import hashlib
import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from machines.models import Cluster, Operation, OperationState
from machines.selectors.load import WHERE, loads


class LeaseLost(Exception):
    """Somebody else has the operation now. Write nothing more."""


def claim(most: int = 1) -> list[Operation]:
    """The next operations that may run, leased to the caller: up to `most` of one cluster.

    What was begun and only has to be looked at comes first, then a person's wishes, bulk work
    and refills, each by age, within the limits of the clusters. The attempt is counted here,
    before the work, so that an operation which kills its worker ends some day; one that may have
    killed a worker is handed out alone.
    """
    token = _take(_candidates(most), most)
    if token is None:
        return []
    leased = Operation.objects.filter(lease=token, state=OperationState.RUNNING)
    return list(leased.select_related("machine__cluster", "machine__template", "machine__owner", "batch").order_by(_BEGUN_FIRST, "priority", "pk"))


_BEGUN_FIRST = Case(When(slot="", then=Value(0)), default=Value(1))


@dataclass(frozen=True, slots=True)
class _Candidate:
    pk: int
    slot: str
    begun: bool
    attempt: int
    cluster: int
    where: tuple[Any, ...]  # machines.selectors.load.WHERE


def _candidates(most: int) -> list[_Candidate]:
    """Those that may run next, as many as all workers may be choosing among. Looked for without
    any lock: on a busy SQLite everybody waits for the shortest one."""
    due = Operation.objects.filter(state=OperationState.QUEUED, not_before__lte=timezone.now())
    if not due.exists():
        return []
    waits = Q(pk=None)
    for load in loads(Cluster.objects.all()).values():
        waits |= load.held_back()
    columns = ("pk", "slot", "started_at", "attempt", "machine__cluster_id", *WHERE)
    found = due.exclude(waits).order_by(_BEGUN_FIRST, "priority", "pk").values_list(*columns)[: most + settings.WORKERS]
    return [_Candidate(pk, slot, started_at is not None, attempt, cluster, tuple(where)) for pk, slot, started_at, attempt, cluster, *where in found]


def _take(candidates: list[_Candidate], most: int) -> str | None:
    """Lease the first of them that nobody else took meanwhile and that there is still room for.
    The clusters' rows are held for that, or two workers could take the last free place. Returns
    the token of the lease."""
    if not candidates:
        return None
    now, token = timezone.now(), _token()
    with transaction.atomic():
        load = loads(Cluster.objects.select_for_update().order_by("pk"))
        waiting = set(Operation.objects.filter(pk__in=[one.pk for one in candidates], state=OperationState.QUEUED).values_list("pk", "slot"))
        chosen: list[_Candidate] = []
        for one in candidates:
            alone = one.attempt > 0
            if (one.pk, one.slot) not in waiting or (chosen and (alone or one.cluster != chosen[0].cluster)):
                continue
            if load[one.cluster].admit(slot=one.slot, where=one.where, begun=one.begun):
                chosen.append(one)
                if alone or len(chosen) == most:
                    break
        taken = Operation.objects.filter(pk__in=[one.pk for one in chosen], state=OperationState.QUEUED).update(
            state=OperationState.RUNNING,
            lease=token,
            lease_until=now + timedelta(seconds=settings.LEASE_SECONDS),
            attempt=F("attempt") + 1,
            started_at=Coalesce("started_at", Value(now)),
        )
    return token if taken else None


def move(operation: Operation, slot: str) -> bool:
    """Let an operation that the caller holds go on in another slot, where there is room and nobody
    who waits for it comes first. Locks the cluster's row."""
    cluster = operation.machine.cluster_id
    sooner = Operation.objects.filter(state=OperationState.QUEUED, slot=slot, machine__cluster=cluster, not_before__lte=timezone.now())
    with transaction.atomic():
        load = loads(Cluster.objects.select_for_update().filter(pk=cluster))[cluster]
        held = Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING, lease=operation.lease)
        where = held.values_list(*WHERE).first()
        if where is None or sooner.filter(priority__lte=operation.priority).exists() or not load.admit(slot=slot, where=where, begun=True):
            return False
        held.update(slot=slot)
    return True


def give_back(operations: list[Operation]) -> None:
    """Put operations back that were leased and not begun."""
    for operation in operations:
        Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING, lease=operation.lease).update(
            state=OperationState.QUEUED, lease="", lease_until=None, attempt=F("attempt") - 1
        )


def _token() -> str:
    """Random, and it says which process holds the lease: one that was killed is found out at once
    where somebody who can see processes looks, and not only when the lease ends."""
    return f"{_computer()}.{os.getpid()}.{_begun(os.getpid())}.{uuid.uuid4().hex}"


def is_orphan(lease: str) -> bool:
    """Whether the holder is known to be gone. False where that cannot be known: it is on another
    computer, or in another container."""
    computer, _, rest = lease.partition(".")
    pid, _, rest = rest.partition(".")
    return bool(computer) and computer == _computer() and pid.isdecimal() and _begun(int(pid)) != rest.partition(".")[0]


@cache
def _computer() -> str:
    """Names what process ids mean something in: this boot of this computer, and the container."""
    try:
        boot, container = Path("/proc/sys/kernel/random/boot_id").read_text(), Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {container}".encode()).hexdigest()[:8]


def _begun(pid: int) -> str:
    """When the process was begun, as proc(5) counts; empty for one that has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def take_over(operation: Operation) -> bool:
    """Lease an operation whose worker let its lease run out. False: somebody was quicker."""
    token, now = _token(), timezone.now()
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
