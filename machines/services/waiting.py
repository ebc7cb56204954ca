"""Operations that wait for the cluster: asked after all at once, and called back when it is time."""

import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Case, Value, When
from django.utils import timezone

from machines.models import Cluster, Operation, OperationState
from machines.providers.base import Provider
from machines.providers.types import TaskRef, TaskState, TaskStatus

from . import dispatch, leftovers, steps
from .feed import operation_topics, publish
from .work import error_to_json

SMALLEST_PROGRESS = 0.02  # less is not worth a write


class Pace:
    """When a cluster is asked again after its tasks: as long after the last time as a quarter of the
    age of the youngest, so that a quick task is seen to end at once and one that goes on costs few calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = -math.inf
        self._since: dict[str, float] = {}  # when a task was first waited for

    def is_due(self, tasks: Iterable[TaskRef], longest: float) -> bool:
        """Whether to ask after `tasks` now; True counts as asked. They are asked after every `longest` seconds at least."""
        now = self._clock()
        self._since = {task.id: self._since.get(task.id, now) for task in tasks}
        youngest = now - max(self._since.values(), default=now)
        if now - self._asked < min(longest, youngest / 4):
            return False
        self._asked = now
        return True


def any_waiting(cluster: Cluster) -> bool:
    return Operation.objects.filter(state=OperationState.WAITING, machine__cluster=cluster).exists()


def poll(cluster: Cluster, provider: Provider | None, *, progress: bool = True, pace: Pace | None = None) -> int:
    """Ask `provider` once for all tasks waited for on `cluster`, if `pace` says so; call back the operations whose
    tasks ended, whose time is over or that were told to use force, and write how far the others
    are where `progress` says so. Returns how many it called back. Raises what `Provider.poll`
    raises, after calling back those whose time is over. Without a provider only those are."""
    waiting = list(Operation.objects.filter(state=OperationState.WAITING, machine__cluster=cluster).select_related("batch"))
    if not waiting:
        return 0
    tasks = {operation.pk: [TaskRef.from_json(task) for task in operation.checkpoint.get("tasks", [])] for operation in waiting}
    asked = [task for refs in tasks.values() for task in refs]
    statuses: dict[TaskRef, TaskStatus] = {}
    try:
        if asked and provider is not None and (pace is None or pace.is_due(asked, provider.capabilities.poll_seconds)):
            statuses = provider.poll(asked)
            leftovers.note(cluster, statuses.values())
    finally:
        called = _sort({operation: [statuses.get(task) for task in tasks[operation.pk]] for operation in waiting}, progress=progress)
    return called


def _sort(found: dict[Operation, list[TaskStatus | None]], *, progress: bool) -> int:
    """Which of them are to be called back, and which got further; None: not answered."""
    now = timezone.now()
    back: list[tuple[Operation, dict[str, Any]]] = []
    further: list[Operation] = []
    for operation, statuses in found.items():
        known = [status for status in statuses if status is not None]
        ended = bool(statuses) and len(known) == len(statuses) and all(status.state is not TaskState.RUNNING for status in known)
        if ended or _is_time(operation, now):
            back.append((operation, _word_of(known)))
        elif progress and (share := _progress(operation, known)) is not None:
            operation.progress = share
            further.append(operation)
    return _write(back, further) if back or further else 0


def _write(back: list[tuple[Operation, dict[str, Any]]], further: list[Operation]) -> int:
    """What is called back only has to be looked at, which no limit holds up. One that went on while
    the cluster was asked, and waits for something else by now, is left alone: the answer is an old one."""
    called = 0
    waiting = Operation.objects.filter(state=OperationState.WAITING)
    columns = {"state": OperationState.QUEUED, "slot": "", "not_before": timezone.now()}
    with transaction.atomic():
        now = dict(waiting.filter(pk__in=[operation.pk for operation, _word in back]).select_for_update().order_by("pk").values_list("pk", "checkpoint"))
        same = [(operation, word) for operation, word in back if now.get(operation.pk) == operation.checkpoint]
        for operation, word in same:
            if word:
                called += waiting.filter(pk=operation.pk).update(**columns, checkpoint={**operation.checkpoint, **word})
        called += waiting.filter(pk__in=[operation.pk for operation, word in same if not word]).update(**columns)
        if further:
            shares = Case(*(When(pk=operation.pk, then=Value(operation.progress)) for operation in further))
            waiting.filter(pk__in=[operation.pk for operation in further]).update(progress=shares)
        publish(*sorted({topic for operation in (*(operation for operation, _word in same), *further) for topic in operation_topics(operation)}))
        if called:
            dispatch.ring()
            dispatch.ring()  # one worker looks at them, another takes what they made room for
    return called


def _is_time(operation: Operation, now: datetime) -> bool:
    until = operation.checkpoint.get("until")
    return until is None or now >= datetime.fromisoformat(until) or bool(operation.params.get("force") and "force" not in operation.checkpoint.get("tries", {}))


def _word_of(statuses: list[TaskStatus]) -> dict[str, Any]:
    """What the step must know of how the tasks ended."""
    word: dict[str, Any] = {}
    for status in statuses:
        if status.state is TaskState.FAILED and status.error is not None:
            word["error"] = error_to_json(status.error)
        elif status.state is TaskState.LOST:
            word["lost"] = True
    return word


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
