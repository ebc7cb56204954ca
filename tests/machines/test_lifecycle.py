"""The table of states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.lifecycle import MOVING, REQUEST_EVENT, STABLE, TRANSITIONS, Event, Kind, NotAllowed, State, can, next_state

REQUESTS = frozenset(REQUEST_EVENT.values())
OBSERVATIONS = frozenset({Event.SEEN_ON, Event.SEEN_OFF, Event.NOT_FOUND})
ENDINGS = frozenset({Event.SETTLED_ON, Event.SETTLED_OFF, Event.FAIL, Event.VANISH, Event.GONE})


def test_requests_lead_from_rest_into_motion_and_endings_back():
    for (state, event), target in TRANSITIONS.items():
        if event in REQUESTS:
            assert state in STABLE and target in MOVING, (state, event)
        elif event in ENDINGS:
            assert state in MOVING and target in STABLE, (state, event)
        elif event in OBSERVATIONS:
            assert state in STABLE and target in STABLE and target is not State.DESTROYED, (state, event)
        else:
            assert event is Event.BEGIN and state in MOVING and target in MOVING


def test_every_kind_of_operation_can_be_asked_for_somewhere_or_comes_with_the_machine():
    for kind, event in REQUEST_EVENT.items():
        assert any(asked is event for _, asked in TRANSITIONS), kind
    assert set(REQUEST_EVENT) == set(Kind)


@pytest.mark.parametrize("state", sorted(MOVING))
def test_whatever_moves_can_fail(state):
    assert next_state(state, Event.FAIL) is State.FAILED


@pytest.mark.parametrize("state", sorted(STABLE - {State.DESTROYED}))
def test_whatever_rests_can_be_destroyed(state):
    assert next_state(state, Event.DESTROY) is State.DESTROYING


def test_nothing_comes_back_from_destroyed():
    assert not [event for event in Event if can(State.DESTROYED, event)]


@given(st.lists(st.sampled_from(list(Event))))
def test_no_walk_leaves_the_table(events):
    state = State.PENDING
    for event in events:
        if can(state, event):
            state = next_state(state, event)
        else:
            with pytest.raises(NotAllowed) as refused:
                next_state(state, event)
            assert (refused.value.state, refused.value.event) == (state, event)
    assert state in STABLE | MOVING
    assert state is State.DESTROYED or any(can(state, event) for event in Event)
