"""The only writer of `Machine.state`."""

from collections.abc import Callable, Iterable
from typing import Any

from django.utils import timezone

from machines.lifecycle import MOVING, Event, State, next_state
from machines.models import Machine

from .feed import machine_topics, publish

# An operation may end in these, or be cancelled, with the power as it was before it.
_POWER_AS_IT_WAS = (State.UPDATING, State.STOPPING, State.DESTROYING, State.FAILED)

# Apps above hear of every move, in its transaction: a class shares out what became free.
LISTENERS: list[Callable[[Machine], None]] = []


class Overtaken(Exception):
    """Somebody else moved the machine between the look and the write. Look again."""


def lock(machines: Iterable[int]) -> None:
    """Lock these machines' rows. Whoever writes to machines and to their operations does it in this
    order, machines by their ids before operations: the other way round, two could wait for each other."""
    list(Machine.objects.select_for_update(of=("self",)).filter(pk__in=list(machines)).order_by("pk").values_list("pk", flat=True))


def apply(machine: Machine, event: Event, *, problem: str = "", code: str = "", tell: Iterable[str] = (), **fields: Any) -> State:
    """Move `machine` along the table, in memory and in the database, and tell the pages.

    Call it in the transaction of what causes the move, with the row locked. `problem` is the
    sentence the owner reads and `code` its short name; without them the old ones are cleared.
    `fields` are further columns of the same write, `tell` further topics. Raises NotAllowed, Overtaken.
    """
    state = next_state(machine.state, event)
    now = timezone.now()
    changes: dict[str, Any] = {"state": state, "state_since": now, "problem": problem[:300], "problem_code": code, **fields}
    if state not in _POWER_AS_IT_WAS:
        changes["on_since"] = (machine.on_since or now) if state is State.RUNNING else None
        if state is State.RUNNING:
            changes["seed_read"] = True
        changes["off_since"] = (machine.off_since or now) if state is State.STOPPED else None
    if state in MOVING and state != State.UPDATING:
        changes["answering_since"] = None
    if not Machine.objects.filter(pk=machine.pk, state=machine.state).update(**changes):
        raise Overtaken(f"{machine} is not {machine.state} any more")
    for column, value in changes.items():
        setattr(machine, column, value)
    publish(*machine_topics(machine), *tell)
    for heard in LISTENERS:
        heard(machine)
    return state
