"""What an inventory changes about what we know. Pure: rows as values in, a plan out.

Nothing is concluded about a machine that is being worked on or that moved since the inventory
was begun. Nothing is ever deleted, and what has our label but no row is only reported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from machines.lifecycle import STABLE, Event, State
from machines.providers.types import Inventory, ObservedMachine, Power, Stage

# Whole inventories in a row without a machine before it is believed to be missing.
SIGHTINGS = 2
# The same where an unusual share is gone at once: more likely the cluster lost its list than its machines.
UNUSUAL_SIGHTINGS = 20
UNUSUAL_COUNT, UNUSUAL_SHARE = 3, 0.5


@dataclass(frozen=True, slots=True)
class Known:
    """A machine's row, as far as it matters here."""

    pk: int
    key: str
    ref: str
    state: State
    state_since: datetime
    made: bool  # it was there once
    power: str = "unknown"
    node: str = ""
    endpoints: tuple[Mapping[str, Any], ...] = ()
    misses: int = 0
    answering: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What to write about one machine, if it still is as `known` says."""

    known: Known
    columns: Mapping[str, Any]
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """So many are gone at once that they are not believed to be gone yet."""

    vanished: int
    of: int
    sighting: int
    needed: int = UNUSUAL_SIGHTINGS


@dataclass(frozen=True, slots=True)
class Plan:
    changes: list[Change] = field(default_factory=list)
    orphans: list[ObservedMachine] = field(default_factory=list)
    alarm: Alarm | None = None


def plan(known: Iterable[Known], inventory: Inventory, *, portal: str, began: datetime) -> Plan:
    """What to do about `inventory`, which was begun at `began` by the installation `portal`.
    `known` are all machines of the cluster but those destroyed before that."""
    rows = list(known)
    certain = began - timedelta(seconds=inventory.lag)  # what moved since may be told as it was before
    seen = {(one.identity.key, one.ref): one for one in inventory.machines if one.identity is not None and one.identity.portal == portal}
    settled = [row for row in rows if row.state in STABLE and row.state is not State.DESTROYED and row.state_since < certain]

    expected = [row for row in settled if row.made and row.state in (State.STOPPED, State.RUNNING)]
    vanished = [row for row in expected if (row.key, row.ref) not in seen] if inventory.whole else []
    unusual = len(vanished) >= UNUSUAL_COUNT and len(vanished) > UNUSUAL_SHARE * len(expected)
    needed = UNUSUAL_SIGHTINGS if unusual else SIGHTINGS

    changes = [change for row in settled if (one := seen.get((row.key, row.ref))) and (change := _seen(row, one))]
    for row in vanished:
        misses = row.misses + 1
        changes.append(Change(row, {"misses": misses}, Event.NOT_FOUND if misses >= needed else None))

    places = {(row.key, row.ref) for row in rows}
    # One that moves, or moved since, may have another place than we have read, or none any more.
    moving = {row.key for row in rows if row.state not in STABLE or row.state_since >= certain}
    orphans = [one for place, one in seen.items() if place not in places and place[0] not in moving]
    waiting = [row.misses + 1 for row in vanished if row.misses + 1 < needed]
    alarm = Alarm(len(vanished), len(expected), min(waiting)) if unusual and waiting else None
    return Plan(changes, orphans, alarm)


def _seen(row: Known, one: ObservedMachine) -> Change | None:
    seen = tuple({"service": end.service, "host": end.host, "port": end.port, "source": end.source} for end in one.endpoints)
    # An inventory that has no address of a machine that is on says nothing about it: `locating` asks elsewhere.
    endpoints = seen or (row.endpoints if one.power is Power.ON else ())
    now: dict[str, Any] = {"power": str(one.power), "node": one.node, "endpoints": endpoints, "misses": 0}
    columns = {name: value for name, value in now.items() if getattr(row, name) != value}
    if one.power is Power.OFF and row.answering:
        columns["answering_since"] = None
    event = _event(row, one)
    return Change(row, columns, event) if columns or event else None


def _event(row: Known, one: ObservedMachine) -> Event | None:
    if one.stage is not Stage.READY or one.power is Power.UNKNOWN:
        return None
    on = one.power is Power.ON
    match row.state:
        case State.STOPPED if on:
            return Event.SEEN_ON
        case State.RUNNING if not on:
            return Event.SEEN_OFF
        case State.MISSING:
            return Event.SEEN_ON if on else Event.SEEN_OFF
        case State.FAILED if on and row.power != Power.ON:  # it came up after all; one that stayed on keeps its problem
            return Event.SEEN_ON
    return None
