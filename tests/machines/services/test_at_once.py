"""What threads on a real server database do to each other."""

import threading
import time
from collections.abc import Callable
from itertools import count

import pytest
from django.db import connection, connections, transaction
from django_q.models import OrmQ

from machines.lifecycle import Event, Kind, State
from machines.models import Machine, Operation, OperationState, Priority
from machines.services import dispatch, executor, leases, requests
from machines.services.refusal import Refused
from machines.services.work import Work
from tests.factories import make_cluster, make_machine, make_operation, make_template

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]
THREADS = 8


def claim_one() -> Operation | None:
    return next(iter(leases.claim(1)), None)


@pytest.fixture(autouse=True)
def on_postgres():
    if connection.vendor != "postgresql":
        pytest.skip("TEST_DATABASE_URL names no PostgreSQL")


def at_once(do: Callable[[], object]) -> list[object]:
    """Call `do` in many threads that set off together; what each returned or raised."""
    gate, results = threading.Barrier(THREADS), []

    def call() -> None:
        try:
            gate.wait(10)
            results.append(do())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == THREADS
    return results


@pytest.mark.parametrize("limit", [1, 3])
def test_workers_that_choose_at_once_keep_to_the_limit(limit):
    template = make_template(make_cluster(limit_power=limit))
    for _ in range(THREADS):
        make_operation(make_machine(template=template, state=State.STARTING), kind=Kind.START, slot="boot")
    claimed = [one for one in at_once(claim_one) if one is not None]
    assert len(claimed) == len({operation.pk for operation in claimed}) == limit


def test_one_operation_is_claimed_once():
    make_operation(make_machine(state=State.STARTING), kind=Kind.START, slot="boot")
    assert len([one for one in at_once(claim_one) if one is not None]) == 1


def test_start_pressed_many_times_at_once_is_one_operation():
    pk = make_machine(state=State.STOPPED).pk
    operations = at_once(lambda: requests.start(Machine.objects.get(pk=pk), acting_user=None))
    assert {one.pk for one in operations} == {Operation.objects.get().pk}


def test_wishes_that_exclude_each_other_are_one_operation():
    pk, turn = make_machine(state=State.RUNNING).pk, count()

    def press() -> Operation:
        verb = requests.stop if next(turn) % 2 else requests.restart
        return verb(Machine.objects.get(pk=pk), acting_user=None)

    results = at_once(press)
    assert all(isinstance(one, Operation | Refused) for one in results)
    assert Operation.objects.count() == 1


def test_a_worker_that_writes_and_a_person_who_asks_do_not_wait_for_each_other():
    """Both hold the machine before the operation: else each could hold what the other wants."""
    machine = make_machine(state=State.STARTING)
    operation = make_operation(machine, kind=Kind.START, slot="boot", priority=Priority.BULK)
    work = Work(leases.claim()[0])
    work.close(state=OperationState.FAILED, event=Event.FAIL, lease="", lease_until=None)
    failed: list[Exception] = []

    def write() -> None:
        try:
            executor.write_down([work])
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    worker = threading.Thread(target=write)
    with transaction.atomic():
        requests._lock(machine)
        worker.start()
        end = time.monotonic() + 10
        while not waits_for_a_lock():
            assert time.monotonic() < end
        assert requests.start(machine, acting_user=None).pk == operation.pk  # writes to the operation: it is in more of a hurry now
    worker.join(10)
    operation.refresh_from_db()
    assert failed == [] and (operation.state, operation.priority) == (OperationState.FAILED, Priority.PERSON)


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


def test_a_bell_rung_while_another_request_is_open_is_heard_after_it():
    """A worker may not take a bell and look before the request that counted on it has committed."""
    dispatch.ring()
    bells = OrmQ.objects.count()
    opened, checked = threading.Event(), threading.Event()

    def request() -> None:
        with transaction.atomic():
            dispatch.ring()
            opened.set()
            checked.wait(10)
        connections.close_all()

    asking = threading.Thread(target=request)
    asking.start()
    opened.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        try:
            with pytest.raises(Exception, match="lock timeout"):
                OrmQ.objects.filter(pk=OrmQ.objects.earliest("pk").pk).update(lock=None)
        finally:
            cursor.execute("SET lock_timeout = 0")
            checked.set()
            asking.join(10)
    assert OrmQ.objects.count() == bells + 1
