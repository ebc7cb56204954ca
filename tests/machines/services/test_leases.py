"""Who works at which operation, and who is next."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import Kind, State
from machines.models import Machine, Operation, OperationState
from machines.services import executor, leases, requests, sweep
from tests.factories import make_cluster, make_machine, make_operation, make_template

from .conftest import claim_one, made

pytestmark = pytest.mark.django_db


# -- leases ----------------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_calls_nothing_and_writes_nothing(cluster, world, carry_on, settings):
    machine = made(cluster, world)
    operation = requests.start(machine, acting_user=None)
    zombie = claim_one()
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.LEASE_SECONDS + 1)):
        assert sweep.resume_abandoned() == 1
        carry_on(operation)
        world.calls.clear()
        executor.run_batch([zombie])
    assert world.calls == ["find"]
    assert Operation.objects.get().state == OperationState.SUCCEEDED
    assert operation.events.filter(text__contains="Another one goes on").exists()
    with pytest.raises(leases.LeaseLost):
        leases.write(zombie, state="failed")


def test_a_worker_whose_lease_ran_out_acts_no_more_even_before_the_sweep_came(cluster, world, settings):
    requests.start(made(cluster, world), acting_user=None)
    late = claim_one()
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.LEASE_SECONDS + 1)):
        executor.run_batch([late])
    assert "start" not in world.calls and Operation.objects.get().state == OperationState.RUNNING


def test_an_operation_that_kills_its_workers_is_given_up(cluster, world, settings):
    operation = requests.start(made(cluster, world), acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        for _ in range(settings.OPERATION_ATTEMPTS):
            assert claim_one() == operation
            clock.shift(settings.LEASE_SECONDS + 1)
            sweep.sweep()
        assert claim_one() is None
    operation.refresh_from_db()
    assert (operation.state, operation.code) == (OperationState.FAILED, "worker_lost")
    assert operation.machine.state == State.FAILED


def test_two_workers_never_have_the_same_operation(cluster, world):
    requests.start(made(cluster, world), acting_user=None)
    assert claim_one() is not None
    assert claim_one() is None


# -- several at once -------------------------------------------------------------------------------


def test_a_worker_takes_several_of_one_cluster(cluster, world):
    other = make_template(make_cluster(kind="fake"))
    for _ in range(3):
        requests.start(made(cluster, world), acting_user=None)
    elsewhere = make_operation(make_machine(template=other, state=State.STARTING), slot="boot")
    batch = leases.claim(8)
    assert len(batch) == 3 and elsewhere not in batch and len({operation.lease for operation in batch}) == 1
    assert executor.run_batch(batch) == 3
    assert set(Operation.objects.exclude(pk=elsewhere.pk).values_list("state", flat=True)) == {OperationState.SUCCEEDED}


def test_a_batch_keeps_to_the_limits(cluster, world):
    cluster.limit_power = 2
    cluster.save()
    for _ in range(4):
        requests.start(made(cluster, world), acting_user=None)
    assert len(leases.claim(8)) == 2 and leases.claim(8) == []


def test_one_that_may_have_killed_a_worker_takes_no_others_with_it(cluster, world):
    operations = [requests.start(made(cluster, world), acting_user=None) for _ in range(3)]
    Operation.objects.filter(pk=operations[0].pk).update(attempt=1)
    assert leases.claim(8) == [operations[0]]
    Operation.objects.filter(pk=operations[2].pk).update(attempt=1)
    assert leases.claim(8) == [operations[1]] and leases.claim(8) == [operations[2]]


def test_when_the_first_of_a_batch_take_their_time_the_others_are_given_back(cluster, world, monkeypatch):
    operations = [requests.start(made(cluster, world), acting_user=None) for _ in range(3)]
    monkeypatch.setattr(executor, "BATCH_SECONDS", 0)
    assert executor.run_batch(leases.claim(8)) == 1
    states = [(one.state, one.attempt, one.lease) for one in Operation.objects.filter(pk__in=[one.pk for one in operations[1:]])]
    assert states == [(OperationState.QUEUED, 0, "")] * 2


def test_one_of_a_batch_that_cannot_be_written_takes_no_others_with_it(cluster, world, monkeypatch, caplog):
    good, bad, late, both = (requests.start(made(cluster, world), acting_user=None) for _ in range(4))
    batch = leases.claim(8)
    Machine.objects.filter(pk__in=[bad.machine_id, both.machine_id]).update(state=State.STOPPED)  # behind everybody's back
    works = [executor.run(operation) for operation in batch]
    Operation.objects.filter(pk=late.pk).update(lease="somebody else's")
    fail = executor._fail_internal

    def failing(work):  # and while that is written down, somebody else takes it over
        fail(work)
        if work.operation.pk == both.pk:
            Operation.objects.filter(pk=both.pk).update(lease="somebody else's")

    monkeypatch.setattr(executor, "_fail_internal", failing)
    executor.write_down(works)
    states = {operation.pk: operation.state for operation in Operation.objects.all()}
    assert states[good.pk] == OperationState.SUCCEEDED and states[late.pk] == states[both.pk] == OperationState.RUNNING
    bad.refresh_from_db()
    assert (bad.state, bad.code, Machine.objects.get(pk=bad.machine_id).state) == (OperationState.FAILED, "internal", State.STOPPED)
    assert "Overtaken" in bad.detail and "Overtaken" in caplog.text


# -- who is next -----------------------------------------------------------------------------------


def test_people_come_before_bulk_and_bulk_before_refills_and_the_oldest_first(cluster, world):
    order = [make_operation(made(cluster, world, State.STARTING), priority=priority) for priority in (90, 50, 10, 50, 10)]
    assert [claim_one() for _ in order] == [order[2], order[4], order[1], order[3], order[0]]


@pytest.mark.parametrize(
    ("limits", "kind", "slot", "admitted"),
    [
        ({"limit_create": 2}, Kind.PROVISION, "create", 2),
        ({"limit_per_template": 1}, Kind.PROVISION, "create", 1),
        ({"limit_power": 3}, Kind.START, "boot", 3),
        ({"limit_power": 3}, Kind.STOP, "power", 3),
        ({"limit_booting": 2}, Kind.START, "boot", 2),
        ({"limit_booting": 2}, Kind.STOP, "power", 5),
        ({"maintenance": True}, Kind.START, "boot", 0),
        ({"reachable": False}, Kind.START, "boot", 1),
    ],
)
def test_limits_of_a_cluster(cluster, world, limits, kind, slot, admitted):
    for name, value in limits.items():
        setattr(cluster, name, value)
    cluster.save()
    for _ in range(5):
        make_operation(make_machine(template=cluster.templates.get(), state=State.STARTING), kind=kind, slot=slot)
    claimed = 0
    while claim_one():
        claimed += 1
    assert claimed == admitted


@pytest.mark.parametrize(
    ("limits", "template", "kind", "admitted"),
    [
        ({"limit_create_per_node": 2}, {"node": "pve1"}, Kind.PROVISION, 2),
        ({"limit_create_per_node": 2}, {}, Kind.PROVISION, 4),
        ({"limit_create_per_storage": 3}, {"storage": "shared"}, Kind.PROVISION, 3),
        ({"limit_create_per_node": 2, "limit_create_per_storage": 1}, {"node": "pve1", "storage": "shared"}, Kind.PROVISION, 1),
        ({}, {"kind": "container", "ref": "9100"}, Kind.PROVISION, 1),
        ({}, {"kind": "container", "ref": "9100"}, Kind.REVERT, 1),  # it may be made anew
        ({}, {"kind": "container", "ref": "9100"}, Kind.DESTROY, 4),
        ({}, {"kind": "container", "ref": "local:vztmpl/debian-12.tar.zst"}, Kind.PROVISION, 4),  # nothing of it is locked
        ({"limit_create_per_node": 2}, {"node": "pve1"}, Kind.SNAPSHOT, 4),  # not the work of that node
        ({"limit_power_per_node": 2}, {}, Kind.START, 2),
    ],
)
def test_limits_of_the_places_of_a_cluster(cluster, limits, template, kind, admitted):
    for row, columns in ((cluster, limits), (cluster.templates.get(), template)):
        for name, value in columns.items():
            setattr(row, name, value)
        row.save()
    for _ in range(5):
        machine = make_machine(template=cluster.templates.get(), state=State.STARTING, node="pve2")
        make_operation(machine, kind=kind, slot="boot" if kind == Kind.START else "create")
    batch = leases.claim(8)
    assert len(batch) == admitted and leases.claim(8) == []


def test_machines_that_boot_count_until_they_answer(cluster, world):
    cluster.limit_booting = 1
    cluster.save()
    booting = made(cluster, world, State.RUNNING, on_since=timezone.now())
    make_operation(made(cluster, world, State.STARTING), slot="boot")
    assert claim_one() is None
    Machine.objects.filter(pk=booting.pk).update(answering_since=timezone.now())
    assert claim_one() is not None


def test_a_full_or_dead_cluster_does_not_hold_up_another(cluster, world, settings):
    dead = make_cluster(kind="fake", reachable=False)
    template = make_template(dead)
    for _ in range(9):
        make_operation(make_machine(template=template, state=State.STARTING), priority=10)
    alive = make_operation(made(cluster, world, State.STARTING), priority=90)
    assert [claim_one().machine.cluster for _ in range(2)] == [dead, cluster]
    alive.refresh_from_db()
    assert alive.state == OperationState.RUNNING


def test_no_cluster_gets_all_workers_while_there_are_others(cluster, world, settings):
    make_cluster(kind="fake")
    for _ in range(9):
        make_operation(made(cluster, world, State.STARTING))
    claimed = 0
    while claim_one():
        claimed += 1
    assert claimed == settings.WORKERS - 1


def test_what_was_begun_goes_on_during_maintenance(cluster, world):
    cluster.maintenance = True
    cluster.save()
    make_operation(made(cluster, world, State.STARTING), started_at=timezone.now())
    assert claim_one() is not None


def test_an_operation_goes_on_in_another_slot_where_nobody_waits_for_it(cluster, world):
    cluster.limit_power = 1
    cluster.save()
    machine = make_machine(template=cluster.templates.get(), state=State.PENDING)
    make_operation(machine, kind=Kind.PROVISION, slot="create", priority=50)
    held = claim_one()
    waiting = make_operation(make_machine(template=cluster.templates.get(), state=State.STARTING), slot="boot")
    assert not leases.move(held, "boot")  # a person's wish comes before bulk work
    Operation.objects.filter(pk=waiting.pk).update(state=OperationState.RUNNING)
    assert not leases.move(held, "boot")  # the only place is taken
    Operation.objects.filter(pk=waiting.pk).update(state=OperationState.SUCCEEDED)
    assert leases.move(held, "boot")
    assert Operation.objects.get(pk=held.pk).slot == "boot"
    Operation.objects.filter(pk=held.pk).update(lease="somebody else's")
    assert not leases.move(held, "power")
