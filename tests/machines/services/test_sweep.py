"""What is mended after crashes that the executor cannot see."""

import subprocess
import sys
from datetime import timedelta

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from machines import tasks
from machines.checks import timings
from machines.lifecycle import State
from machines.models import Change, Heartbeat, Machine, Operation, OperationState
from machines.services import dispatch, heartbeats, leases, sweep
from tests.factories import make_machine, make_operation

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(hours=2)


def long_ago(*machines: Machine) -> None:
    Machine.objects.filter(pk__in=[machine.pk for machine in machines]).update(state_since=LONG_AGO)
    Operation.objects.update(created_at=LONG_AGO)


def test_a_machine_that_moves_without_an_operation_needs_attention():
    lonely, busy, fresh = make_machine(state=State.STARTING), make_operation().machine, make_machine(state=State.STARTING)
    long_ago(lonely, busy)
    assert sweep.mend_mismatches() == 1
    states = {machine.pk: machine.state for machine in Machine.objects.all()}
    assert states == {lonely.pk: State.FAILED, busy.pk: State.STARTING, fresh.pk: State.STARTING}
    assert Machine.objects.get(pk=lonely.pk).problem_code == "operation_lost"


def test_an_operation_whose_machine_rests_is_ended():
    stray = make_operation(make_machine(state=State.RUNNING))
    fresh = make_operation(make_machine(state=State.RUNNING))
    long_ago(stray.machine)
    assert sweep.mend_mismatches() == 1
    stray.refresh_from_db()
    fresh.refresh_from_db()
    assert (stray.state, stray.code, fresh.state) == (OperationState.FAILED, "inconsistent", OperationState.QUEUED)
    assert stray.events.count() == 1


def test_a_lease_that_still_runs_is_left_alone():
    operation = make_operation(state="running", lease="a", lease_until=timezone.now() + timedelta(seconds=5), attempt=1)
    assert sweep.resume_abandoned() == 0
    with time_machine.travel(timezone.now() + timedelta(seconds=6)):
        assert sweep.resume_abandoned() == 1
        assert sweep.resume_abandoned() == 0
    operation.refresh_from_db()
    assert (operation.state, operation.lease, operation.attempt) == (OperationState.QUEUED, "", 1)


def test_what_a_killed_worker_of_this_computer_held_is_resumed_at_once():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        lease = f"{leases._computer()}.{worker.pid}.{leases._begun(worker.pid)}.1"
        elsewhere = f"00000000.{worker.pid}.{leases._begun(worker.pid)}.2"
        later = timezone.now() + timedelta(minutes=2)
        held, unknown = (make_operation(state="running", lease=token, lease_until=later, attempt=1) for token in (lease, elsewhere))
        assert not leases.is_orphan(lease) and sweep.resume_abandoned() == 0
        worker.kill()
    assert leases.is_orphan(lease) and sweep.resume_abandoned() == 1
    for operation in (held, unknown):
        operation.refresh_from_db()
    assert (held.state, unknown.state) == (OperationState.QUEUED, OperationState.RUNNING)


@pytest.mark.parametrize("lease", ["", "a", "..", "a.b.c.d", f"{leases._computer()}.x.1.2"])
def test_a_lease_that_says_nothing_of_its_holder_is_no_orphan(lease):
    assert not leases.is_orphan(lease)


def test_what_is_due_is_rung_for_and_nothing_else():
    operation = make_operation(not_before=timezone.now() + timedelta(minutes=1))
    assert not dispatch.ring_if_due() and not OrmQ.objects.exists()
    Operation.objects.filter(pk=operation.pk).update(not_before=timezone.now())
    assert dispatch.ring_if_due() and OrmQ.objects.count() == 1


def test_as_many_bells_hang_as_there_are_workers(settings):
    for _ in range(settings.WORKERS + 3):
        dispatch.ring()
    assert OrmQ.objects.count() == settings.WORKERS
    OrmQ.objects.update(lock=timezone.now() + timedelta(minutes=5))  # heard: a worker has them
    dispatch.ring()
    assert OrmQ.objects.count() == settings.WORKERS + 1


def test_a_bell_for_what_was_rolled_back_does_not_sound():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dispatch.ring()
        raise ZeroDivisionError
    assert not OrmQ.objects.exists()


def test_the_worker_shows_life_and_answers_what_hangs_behind(cluster, world):
    operation = make_operation(make_machine(template=cluster.templates.get(), state=State.STARTING), kind="start")
    dispatch.ask_heartbeat()
    assert SignedPackage.loads(OrmQ.objects.get().payload)["func"] == "machines.tasks.heartbeat"
    assert tasks.heartbeat() == 1
    assert Heartbeat.objects.get(name="worker").at > timezone.now() - timedelta(seconds=5)
    operation.refresh_from_db()
    assert (operation.state, operation.code) == (OperationState.FAILED, "missing")
    assert tasks.work() == 0


def test_calls_for_life_do_not_pile_up_while_no_worker_listens(settings):
    for _ in range(5 * settings.WORKERS):
        dispatch.ask_heartbeat()
    assert OrmQ.objects.count() == 2 * settings.WORKERS


def test_what_nobody_reads_any_more_is_forgotten():
    old, new = Change.objects.create(topic="machine:a"), Change.objects.create(topic="machine:b")
    Change.objects.filter(pk=old.pk).update(at=LONG_AGO)
    Heartbeat.objects.create(name="worker", at=timezone.now())
    Heartbeat.objects.create(name="retired", at=timezone.now() - timedelta(days=2))
    for key, expires in (("over", LONG_AGO), ("open", timezone.now() + timedelta(days=1))):
        Session.objects.create(session_key=key, session_data="", expire_date=expires)
    sweep.trim()
    heartbeats.forget_old()
    assert list(Change.objects.all()) == [new] and Heartbeat.objects.get().name == "worker"
    assert Session.objects.get().session_key == "open"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SLICE_SECONDS", 60, "SLICE_SECONDS (60) must be more than PROVIDER_CALL_SECONDS (60)."),
        ("WORKER_TIMEOUT_SECONDS", 10, "WORKER_TIMEOUT_SECONDS (10) must be more than SLICE_SECONDS (70)."),
        ("LEASE_SECONDS", 90, "LEASE_SECONDS (90) must be more than WORKER_TIMEOUT_SECONDS (90)."),
        ("LEASE_SECONDS", 300, "QUEUE_RETRY_SECONDS (300) must be more than LEASE_SECONDS (300)."),
    ],
)
def test_timings_out_of_order_are_said_at_the_start(settings, name, value, said):
    assert timings() == []
    setattr(settings, name, value)
    assert [error.msg for error in timings()] == [said]
