"""Since when a machine is on or off."""

from datetime import timedelta

import pytest
from django.utils import timezone

from machines.lifecycle import Event, State
from machines.models import Machine
from machines.services import transitions
from tests.factories import make_machine

pytestmark = pytest.mark.django_db

LONG_AGO = timezone.now() - timedelta(hours=5)


def moved(machine, *events):
    for event in events:
        transitions.apply(machine, event)
    machine.refresh_from_db()
    return machine


def since_long_ago(first, **fields):
    machine = moved(make_machine(**fields), first)
    Machine.objects.filter(pk=machine.pk).update(on_since=machine.on_since and LONG_AGO, off_since=machine.off_since and LONG_AGO)
    machine.refresh_from_db()
    return machine


@pytest.mark.parametrize(
    "events",
    [
        (Event.UPDATE, Event.SETTLED_ON),  # a snapshot
        (Event.UPDATE, Event.FAIL, Event.SEEN_ON),
        (Event.STOP, Event.SETTLED_ON),  # a stop that was cancelled
    ],
)
def test_a_machine_is_on_since_it_was_switched_on(events):
    assert moved(since_long_ago(Event.SEEN_ON), *events).since == LONG_AGO


@pytest.mark.parametrize("events", [(Event.RESTART, Event.SETTLED_ON), (Event.REVERT, Event.SETTLED_ON), (Event.SEEN_OFF, Event.SEEN_ON)])
def test_what_switches_it_on_again_counts_anew(events):
    machine = moved(since_long_ago(Event.SEEN_ON), *events)
    assert machine.since > LONG_AGO and machine.since == machine.on_since


def test_a_machine_that_is_resized_is_off_since_it_was_switched_off():
    machine = moved(since_long_ago(Event.SEEN_OFF, state=State.RUNNING), Event.UPDATE, Event.SETTLED_OFF)
    assert machine.since == LONG_AGO and machine.on_since is None
    assert moved(machine, Event.UPDATE, Event.SETTLED_ON).since > LONG_AGO  # somebody switched it on meanwhile


def test_while_something_is_done_the_time_is_that_of_the_work():
    machine = moved(since_long_ago(Event.SEEN_ON), Event.UPDATE)
    assert machine.since == machine.state_since > LONG_AGO
