"""Operations that wait for the cluster: asked after all at once, and called back when it is time."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from machines.models import Cluster, Operation, OperationState
from machines.providers.base import Provider
from machines.providers.types import TaskRef, TaskState, TaskStatus

from . import dispatch, steps
from .feed import operation_topics, publish
from .work import error_to_json

SMALLEST_PROGRESS = 0.02  # less is not worth a write


def any_waiting(cluster: Cluster) -> bool:
    return Operation.objects.filter(state=OperationState.WAITING, machine__cluster=cluster).exists()


def poll(cluster: Cluster, provider: Provider) -> int:
    """Ask `provider` once for all tasks waited for on `cluster`; call back the operations whose
    tasks ended, whose time is over or that were told to use force. Returns how many. Raises
    what `Provider.poll` raises, after calling back those whose time is over."""
    waiting = list(Operation.objects.filter(state=OperationState.WAITING, machine__cluster=cluster).select_related("batch"))
    if not waiting:
        return 0
    tasks = {operation.pk: [TaskRef.from_json(task) for task in operation.checkpoint.get("tasks", [])] for operation in waiting}
    asked = [task for refs in tasks.values() for task in refs]
    statuses: dict[TaskRef, TaskStatus] = {}
    try:
        if asked:
            statuses = provider.poll(asked)
    finally:
        called = _write(waiting, {pk: [statuses[task] for task in refs if task in statuses] for pk, refs in tasks.items()})
    return called


def _write(waiting: list[Operation], found: dict[int, list[TaskStatus]]) -> int:
    now, called, topics = timezone.now(), 0, []
    with transaction.atomic():
        for operation in waiting:
            statuses, count = found[operation.pk], len(operation.checkpoint.get("tasks", []))
            ended = count > 0 and len(statuses) == count and all(status.state is not TaskState.RUNNING for status in statuses)
            if ended or _is_time(operation, now):
                changes = _called_back(operation, statuses, now)
                called += Operation.objects.filter(pk=operation.pk, state=OperationState.WAITING).update(**changes)
                topics += operation_topics(operation)
            elif (progress := _progress(operation, statuses)) is not None:
                Operation.objects.filter(pk=operation.pk, state=OperationState.WAITING).update(progress=progress)
                topics += operation_topics(operation)
        if topics:
            publish(*sorted(set(topics)))
        if called:
            dispatch.ring()
    return called


def _is_time(operation: Operation, now: datetime) -> bool:
    until = operation.checkpoint.get("until")
    return until is None or now >= datetime.fromisoformat(until) or bool(operation.params.get("force") and "force" not in operation.checkpoint.get("tries", {}))


def _called_back(operation: Operation, statuses: list[TaskStatus], now: datetime) -> dict[str, Any]:
    """It only has to be looked at next, which no limit holds up."""
    checkpoint = dict(operation.checkpoint)
    for status in statuses:
        if status.state is TaskState.FAILED and status.error is not None:
            checkpoint["error"] = error_to_json(status.error)
        elif status.state is TaskState.LOST:
            checkpoint["lost"] = True
    return {"state": OperationState.QUEUED, "slot": "", "not_before": now, "checkpoint": checkpoint}


def _progress(operation: Operation, statuses: list[TaskStatus]) -> float | None:
    known = [status.progress for status in statuses if status.progress is not None]
    if not known:
        return None
    progress = (operation.step + sum(known) / len(known)) / len(steps.plan(operation))
    return progress if progress >= operation.progress + SMALLEST_PROGRESS else None


def hurry(cluster: Cluster) -> None:
    """The cluster answers again: what backs off because it did not need not wait longer."""
    backing_off = Operation.objects.filter(state=OperationState.QUEUED, machine__cluster=cluster, code="unreachable", not_before__gt=timezone.now())
    with transaction.atomic():
        if Operation.objects.filter(pk__in=list(backing_off.values_list("pk", flat=True)), state=OperationState.QUEUED).update(not_before=timezone.now()):
            dispatch.ring()
