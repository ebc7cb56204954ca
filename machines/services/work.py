"""What a step has in its hands: the operation, its machine, the provider, and the way to write."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from machines.lifecycle import Event
from machines.models import Machine, Operation, OperationEvent, OperationState
from machines.providers import errors
from machines.providers.base import Provider
from machines.providers.types import MachineIdentity, Presence, Sighting, TaskRef

from . import gateway, leases, transitions
from .feed import machine_topics, operation_topics, publish

RECENT_SECONDS = 1.0
MOST_TRIES = 3  # of one deed that the cluster says it did and that is not to be seen afterwards


class Vanished(Exception):
    """The cluster has no such machine any more."""


@dataclass(frozen=True, slots=True)
class Done:
    """The step's end was observed. `machine`: columns of the machine to write with that."""

    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """The cluster is at it. The worker goes; the watcher comes back when `tasks` ended or at
    `until`. `costs` False: what is waited for takes nothing from the cluster's limits."""

    tasks: Sequence[TaskRef]
    until: datetime | None = None
    costs: bool = True


@dataclass(frozen=True, slots=True)
class Again:
    """Look again, after `seconds`; 0: at once."""

    seconds: float = 0


Outcome = Done | Wait | Again


class Work:
    """One slice of an operation in a worker's hands."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.machine: Machine = operation.machine
        self.checkpoint: dict[str, Any] = dict(operation.checkpoint)
        self.params: dict[str, Any] = operation.params
        self.seen: Sighting | None = None
        self.task_error: errors.ProviderError | None = None
        self.task_lost = False
        self._begun = time.monotonic()
        self._looked = 0.0  # when, as time.monotonic counts; 0: something was done since
        self._said: list[tuple[str, str]] = []
        self._closing: dict[str, Any] | None = None

    def open(self) -> None:
        """Take out what the watcher left word of: how the tasks ended that were waited for. In
        the row it stays until the next commit, for whoever goes on after a crash."""
        self.checkpoint.pop("tasks", None)
        self.checkpoint.pop("until", None)
        self.task_error = _error_from(self.checkpoint.pop("error", None))
        self.task_lost = bool(self.checkpoint.pop("lost", False))

    # -- looking

    @property
    def provider(self) -> Provider:
        return gateway.provider_for(self.machine.cluster)

    @property
    def identity(self) -> MachineIdentity:
        return gateway.identity(self.machine)

    def look(self) -> Sighting:
        """What is at the machine's ref right now."""
        self.seen = self.provider.find(self.identity, self.machine.ref)
        self._looked = time.monotonic()
        return self.seen

    def look_at_ours(self) -> Sighting:
        """As `look`, where only our own machine will do; what was seen a moment ago, at the end of the
        step before, will do as well. Raises Vanished, ForeignMachine."""
        if self.seen is not None and time.monotonic() - self._looked < RECENT_SECONDS:
            seen = self.seen
        else:
            seen = self.look() if self.machine.ref else Sighting(Presence.ABSENT)
        if seen.presence is Presence.ABSENT:
            raise Vanished
        if seen.presence is Presence.FOREIGN:
            raise errors.ForeignMachine(seen.detail)
        return seen

    # -- acting

    def act(self, what: str, deed: Callable[[], TaskRef | None]) -> Outcome:
        """Do `what`, which was seen to be not so yet, and wait for it. `deed` is the provider's
        call. Raises what the task of the last try failed with, and TaskFailed after MOST_TRIES."""
        if self.task_error is not None:
            error, self.task_error = self.task_error, None
            raise error
        tries = self.checkpoint.get("tries", {})
        if tries.get(what, 0) >= MOST_TRIES:
            raise errors.TaskFailed(f"{what} was done {MOST_TRIES} times and is not to be seen", message=_("The cluster says it did this, but it is not so."))
        self.still_ours()
        self._looked = 0.0
        task = deed()
        self.checkpoint["tries"] = {**tries, what: tries.get(what, 0) + 1}
        return Wait([task]) if task else Again()

    def once(self, what: str, deed: Callable[[], TaskRef | None]) -> Outcome | None:
        """Do what cannot be seen afterwards (a reboot, a revert): once, unless its task failed
        or was lost. None: it was done."""
        if self.checkpoint.get(what):
            if self.task_error is None and not self.task_lost:
                return None
            self.checkpoint.pop(what)
            self.task_lost = False
        outcome = self.act(what, deed)
        self.checkpoint[what] = True
        return outcome

    def still_ours(self) -> None:
        """Asked before anything is changed. Raises LeaseLost where another worker took over meanwhile, and Busy where looking
        took so long that this worker might end in the middle of the call."""
        if time.monotonic() - self._begun > settings.WORKER_TIMEOUT_SECONDS - settings.SLICE_SECONDS:
            raise errors.Busy("no time is left for the call", message=_("The cluster answers too slowly at the moment."))
        if not leases.holds(self.operation):
            raise leases.LeaseLost(self.operation.key)

    # -- writing

    def say(self, text: str, level: str = "info") -> None:
        """A line for the people who watch; written with the next commit. Not the same twice in a row."""
        if text != self.operation.message or level == "error":
            self._said.append((text[:300], level))
            self.operation.message = text[:300]

    def commit(self, **written: Any) -> None:
        """Write in the middle of a slice, see `_write`. Raises LeaseLost."""
        with transaction.atomic():
            transitions.lock([self.machine.pk])
            self._write(**written)

    def _write(
        self,
        *,
        event: Event | None = None,
        problem: str = "",
        problem_code: str = "",
        machine: dict[str, Any] | None = None,
        also: Callable[[], object] | None = None,
        **columns: Any,
    ) -> None:
        """Write everything at once, if the lease still holds: the operation's `columns` and
        checkpoint, the lines said, the `machine`'s columns, its `event` with the problem it
        leaves, and what `also` writes. In a transaction that holds the machine's row. Raises LeaseLost."""
        columns.setdefault("message", self.operation.message)
        leases.write(self.operation, checkpoint=self.checkpoint, **columns)
        OperationEvent.objects.bulk_create([OperationEvent(operation=self.operation, text=text, level=level) for text, level in self._said])
        if event is not None:
            transitions.apply(self.machine, event, problem=problem, code=problem_code, tell=operation_topics(self.operation), **(machine or {}))
        else:
            if machine:
                Machine.objects.filter(pk=self.machine.pk).update(**machine)
            publish(*operation_topics(self.operation), *machine_topics(self.machine))
        if also is not None:
            also()
        for row, written in ((self.operation, columns), (self.machine, machine or {})):
            for column, value in written.items():
                setattr(row, column, value)
        self._said.clear()

    def close(self, **written: Any) -> None:
        """How the slice ends: what `write_down` writes, together with the slices of other operations."""
        self._closing = written

    def release(self, *, slot: str, after: float = 0, attempt: int = 0, **columns: Any) -> None:
        """Give the operation back to the queue. One that got here killed no worker, so its
        attempts are counted from nothing again."""
        not_before = timezone.now() + timedelta(seconds=after)
        self.close(state=OperationState.QUEUED, slot=slot, not_before=not_before, lease="", lease_until=None, attempt=attempt, **columns)

    def write_down(self) -> None:
        """Write how the slice ended, in a transaction that holds the machine's row. Raises LeaseLost."""
        if self._closing is not None:
            closing, self._closing = self._closing, None
            self._write(**closing)


def error_to_json(error: errors.ProviderError) -> dict[str, str]:
    """For the checkpoint: how a task failed."""
    return {"code": error.code, "message": error.message, "detail": error.detail}


def _error_from(data: dict[str, str] | None) -> errors.ProviderError | None:
    if data is None:
        return None
    kinds: dict[str, type[errors.ProviderError]] = {}
    waiting: list[type[errors.ProviderError]] = [errors.ProviderError]
    while waiting:
        kind = waiting.pop()
        kinds[kind.code] = kind
        waiting += kind.__subclasses__()
    return kinds.get(data["code"], errors.TaskFailed)(data["detail"], message=data["message"])
