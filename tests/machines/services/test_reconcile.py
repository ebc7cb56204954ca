"""What an inventory changes, and what it must never change."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.lifecycle import STABLE, Event, State, can
from machines.providers.types import Endpoint, Inventory, MachineIdentity, ObservedMachine, Power, Stage
from machines.services.reconcile import SIGHTINGS, UNUSUAL_SIGHTINGS, Known, plan

BEGAN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
BEFORE, AFTER = BEGAN - timedelta(minutes=1), BEGAN + timedelta(milliseconds=1)
PORTAL = "this-portal"


def known(pk=1, state=State.STOPPED, **fields) -> Known:
    fields = {"ref": f"ref{pk}", "state_since": BEFORE, "made": True, "power": "off", **fields}
    return Known(pk=pk, key=f"key{pk}", state=state, **fields)


def observed(pk=1, power=Power.OFF, portal=PORTAL, **fields) -> ObservedMachine:
    fields = {"ref": f"ref{pk}", **fields}
    return ObservedMachine(name=f"vm{pk}", power=power, identity=MachineIdentity(f"key{pk}", f"vm{pk}", portal), **fields)


def planned(rows, *machines):
    return plan(rows, Inventory(tuple(machines)), portal=PORTAL, began=BEGAN)


@pytest.mark.parametrize(
    ("state", "recorded", "power", "event"),
    [
        (State.STOPPED, "off", Power.ON, Event.SEEN_ON),
        (State.STOPPED, "off", Power.OFF, None),
        (State.STOPPED, "off", Power.UNKNOWN, None),
        (State.RUNNING, "on", Power.OFF, Event.SEEN_OFF),
        (State.MISSING, "off", Power.ON, Event.SEEN_ON),
        (State.MISSING, "off", Power.OFF, Event.SEEN_OFF),
        (State.FAILED, "off", Power.ON, Event.SEEN_ON),
        (State.FAILED, "on", Power.ON, None),  # its problem stays until somebody acts
        (State.FAILED, "on", Power.OFF, None),
    ],
)
def test_power_changed_behind_our_back(state, recorded, power, event):
    changes = planned([known(state=state, power=recorded)], observed(power=power)).changes
    assert [change.event for change in changes if change.event] == ([event] if event else [])
    assert {change.columns.get("power", recorded) for change in changes} <= {str(power)}


def test_what_is_as_it_was_is_not_written():
    place = Endpoint("ssh", "127.0.0.1", 2222, "forward")
    row = known(power="off", node="n1", endpoints=({"service": "ssh", "host": "127.0.0.1", "port": 2222, "source": "forward"},))
    assert planned([row], observed(node="n1", endpoints=(place,))).changes == []


def test_a_machine_that_went_off_does_not_answer_any_more():
    (change,) = planned([known(state=State.RUNNING, power="on", answering=True)], observed()).changes
    assert change.columns["answering_since"] is None


def test_one_look_without_it_makes_no_machine_missing_two_do():
    assert [change.event for change in planned([known()]).changes] == [None]
    (change,) = planned([known(misses=SIGHTINGS - 1)]).changes
    assert (change.event, change.columns) == (Event.NOT_FOUND, {"misses": SIGHTINGS})


def test_seen_again_the_count_starts_anew():
    (change,) = planned([known(misses=1)], observed()).changes
    assert change.columns["misses"] == 0 and change.event is None


def test_half_built_is_not_there_yet():
    assert all(change.event is None for change in planned([known(state=State.MISSING)], observed(power=Power.ON, stage=Stage.BROKEN)).changes)


def test_machines_of_another_portal_and_of_nobody_are_not_ours():
    stranger = ObservedMachine("ref9", "payroll", Power.ON)
    found = planned([known()], observed(portal="staging"), stranger)
    assert found.orphans == [] and found.changes[0].columns == {"misses": 1}


def test_our_label_without_a_row_is_reported():
    orphan = observed(pk=7)
    assert planned([known()], observed(), orphan).orphans == [orphan]


def test_a_second_machine_with_the_label_of_one_of_ours_is_reported():
    double = observed(ref="elsewhere")
    assert planned([known()], observed(), double).orphans == [double]


def test_what_moved_since_the_look_began_is_no_orphan():
    assert planned([known(ref="", state=State.DESTROYED, state_since=AFTER)], observed()).orphans == []
    assert planned([known(ref="new", state=State.PROVISIONING)], observed()).orphans == []


def test_most_of_them_gone_at_once_is_not_believed_so_soon():
    rows = [known(pk, misses=SIGHTINGS) for pk in range(4)]
    found = planned(rows, observed(pk=0))
    assert all(change.event is None for change in found.changes)
    assert (found.alarm.vanished, found.alarm.of, found.alarm.sighting) == (3, 4, SIGHTINGS + 1)


def test_but_it_is_in_the_end():
    found = planned([known(pk, misses=UNUSUAL_SIGHTINGS - 1) for pk in range(4)])
    assert [change.event for change in found.changes] == [Event.NOT_FOUND] * 4 and found.alarm is None


def test_two_of_two_is_a_small_cluster_not_an_alarm():
    assert planned([known(1), known(2)]).alarm is None


STATES = st.sampled_from(list(State))
ROWS = st.lists(
    st.builds(
        Known,
        pk=st.integers(0, 8),
        key=st.just(""),
        ref=st.sampled_from(["", "ref1", "ref2", "ref3"]),
        state=STATES,
        state_since=st.sampled_from([BEFORE, BEGAN, AFTER]),
        made=st.booleans(),
        power=st.sampled_from(["on", "off", "unknown"]),
        misses=st.integers(0, UNUSUAL_SIGHTINGS + 1),
        answering=st.booleans(),
    ).map(lambda row: Known(**{name: getattr(row, name) for name in Known.__slots__} | {"key": f"key{row.pk}"})),
    unique_by=lambda row: row.pk,
)
MACHINES = st.lists(
    st.builds(
        ObservedMachine,
        ref=st.sampled_from(["ref1", "ref2", "ref3", "ref4"]),
        name=st.just("vm"),
        power=st.sampled_from(list(Power)),
        stage=st.sampled_from(list(Stage)),
        identity=st.none() | st.builds(MachineIdentity, st.integers(0, 9).map("key{}".format), st.just("vm"), st.sampled_from([PORTAL, "staging"])),
    ),
    unique_by=lambda one: one.ref,
)


@given(ROWS, MACHINES)
def test_whatever_is_seen_the_plan_keeps_its_rules(rows, machines):
    found = plan(rows, Inventory(tuple(machines)), portal=PORTAL, began=BEGAN)
    assert len({change.known.pk for change in found.changes}) == len(found.changes)
    for change in found.changes:
        row = change.known
        assert row.state in STABLE and row.state is not State.DESTROYED and row.state_since < BEGAN
        assert change.columns or change.event
        if change.event:
            assert can(row.state, change.event)
        there = any(one.ref == row.ref and one.identity and (one.identity.key, one.identity.portal) == (row.key, PORTAL) for one in machines)
        if change.event is Event.NOT_FOUND:
            assert row.made and not there and row.misses + 1 >= SIGHTINGS
        elif change.event:
            assert there
    for orphan in found.orphans:
        assert orphan.identity.portal == PORTAL
        assert not any((row.key, row.ref) == (orphan.identity.key, orphan.ref) for row in rows)


@given(ROWS, MACHINES)
def test_written_and_seen_again_nothing_is_left_to_do(rows, machines):
    """The plan is at rest once its columns and events are written."""
    inventory = Inventory(tuple(machines))
    first = {
        change.known.pk: change
        for change in plan(rows, inventory, portal=PORTAL, began=BEGAN).changes
        if "misses" not in change.columns or not change.columns["misses"]
    }
    after = []
    for row in rows:
        fields = {name: getattr(row, name) for name in Known.__slots__}
        if change := first.get(row.pk):
            fields |= {name: value for name, value in change.columns.items() if name in fields}
            fields["answering"] = row.answering and "answering_since" not in change.columns
            if change.event:
                fields["state"] = State.RUNNING if change.event is Event.SEEN_ON else State.STOPPED
        after.append(Known(**fields))
    again = plan(after, inventory, portal=PORTAL, began=BEGAN).changes
    assert not [change for change in again if change.known.pk in first]
