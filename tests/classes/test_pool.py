"""The machines of a class."""

import pytest
from django.db import transaction

from accounts.models import AuditEntry
from classes import selectors
from classes.models import PoolMachine
from classes.services import bulk, pool
from classes.services import classes as class_services
from machines.lifecycle import Kind, State
from machines.models import Batch, Machine, Operation, OperationState, Priority
from machines.providers.errors import StorageFull
from machines.services import executor
from machines.services.refusal import Refused
from tests.classes.rows import add_machines, enrol, machine_of, make_class, make_place
from tests.factories import make_operation, make_template
from tests.machines.services.conftest import carry_on, cluster, fake_kind, look_round, world

__all__ = ["carry_on", "cluster", "fake_kind", "world"]  # fixtures

pytestmark = pytest.mark.django_db


def names(lab_class):
    return [place.machine.name for place in selectors.places(lab_class)]


def test_machines_are_added_as_one_batch_of_bulk_work():
    lab_class = make_class("Web basics")
    batch = pool.add_machines(lab_class, 3, acting_user=lab_class.teacher)
    assert names(lab_class) == ["web-basics-01", "web-basics-02", "web-basics-03"]
    assert batch.title == "3 machines for Web basics"
    assert list(batch.operations.values_list("kind", "priority", "state")) == [(Kind.PROVISION, Priority.BULK, OperationState.QUEUED)] * 3
    assert AuditEntry.objects.get(action="pool.add").data["count"] == 3


def test_numbers_are_never_used_again():
    lab_class = make_class("Web basics")
    second = add_machines(lab_class, 2)[1]
    pool.remove_machines(lab_class, [second], acting_user=lab_class.teacher)
    Machine.objects.filter(pk=second.machine.pk).update(state=State.DESTROYED)
    add_machines(lab_class, 1)
    assert names(lab_class) == ["web-basics-01", "web-basics-03"]


@pytest.mark.parametrize("count", [0, -1, pool.MOST_AT_ONCE + 1])
def test_the_number_of_machines_is_bounded(count):
    lab_class = make_class()
    with pytest.raises(Refused) as refused:
        pool.add_machines(lab_class, count, acting_user=lab_class.teacher)
    assert refused.value.code == "count"
    assert not Machine.objects.exists()


def test_a_class_has_so_many_machines_and_no_more(settings):
    settings.CLASS_MAX_MACHINES = 3
    lab_class = make_class()
    first, _second = add_machines(lab_class, 2)

    def refused():
        with pytest.raises(Refused) as refusal:
            pool.add_machines(lab_class, 2, acting_user=lab_class.teacher)
        assert "would have 4 machines" in refusal.value.message and "at most 3" in refusal.value.message
        return refusal.value.code

    assert refused() == "too_many"
    assert Machine.objects.count() == 2
    pool.remove_machines(lab_class, [first], acting_user=lab_class.teacher)
    assert refused() == "too_many"  # it is there until the cluster has deleted it
    Machine.objects.filter(pk=first.machine.pk).update(state=State.DESTROYED)
    add_machines(lab_class, 2)
    add_machines(make_class(), 3)
    settings.CLASS_MAX_MACHINES = 0
    add_machines(lab_class, 2)


def test_a_class_that_is_full_still_gets_fresh_machines_for_used_ones(settings):
    settings.CLASS_MAX_MACHINES = 1
    lab_class = make_class()
    place = make_place(lab_class)
    with transaction.atomic():
        pool.lock(lab_class)
        pool.replace(lab_class, [place], acting_user=lab_class.teacher, batch=Batch.objects.create(title="Fresh", requested_by=lab_class.teacher))
    assert names(lab_class) == ["web-basics-02"]


def test_an_archived_class_gets_no_machines():
    lab_class = make_class()
    class_services.archive_class(lab_class, acting_user=lab_class.teacher)
    with pytest.raises(Refused) as refused:
        pool.add_machines(lab_class, 1, acting_user=lab_class.teacher)
    assert refused.value.code == "archived"


def test_a_template_that_is_gone_is_said_and_nothing_is_half_made():
    lab_class = make_class(template=make_template(present=False))
    with pytest.raises(Refused) as refused:
        pool.add_machines(lab_class, 2, acting_user=lab_class.teacher)
    assert refused.value.code == "template_missing"
    assert not Machine.objects.exists() and not Batch.objects.exists()


def test_removing_a_machine_puts_its_student_on_another_one():
    lab_class = make_class()
    first, second = make_place(lab_class), make_place(lab_class)
    student = enrol(lab_class)
    batch = pool.remove_machines(lab_class, [first], acting_user=lab_class.teacher)
    assert machine_of(student) == second.machine
    assert Machine.objects.get(pk=first.machine.pk).state == State.DESTROYING
    assert batch.operations.get().kind == Kind.DESTROY
    assert list(selectors.current_places(lab_class)) == [second]
    assert AuditEntry.objects.get(action="pool.remove").data["machines"] == [first.machine.name]


def test_removing_what_is_gone_already_is_refused():
    lab_class = make_class()
    place = make_place(lab_class)
    pool.remove_machines(lab_class, [place], acting_user=lab_class.teacher)
    with pytest.raises(Refused) as refused:
        pool.remove_machines(lab_class, [place], acting_user=lab_class.teacher)
    assert refused.value.code == "gone"


def test_machines_of_another_class_cannot_be_removed():
    lab_class, other = make_class(), make_class("Other")
    theirs = make_place(other)
    with pytest.raises(Refused):
        pool.remove_machines(lab_class, [theirs], acting_user=lab_class.teacher)
    assert Machine.objects.get(pk=theirs.machine.pk).state == State.STOPPED


# -- how far it is -----------------------------------------------------------------------------


def test_progress_is_counted_by_one_query(django_assert_num_queries):
    lab_class = make_class()
    for state in (State.RUNNING, State.STOPPED, State.FAILED, State.MISSING, State.DESTROYED):
        make_place(lab_class, state=state)
    make_operation(make_place(lab_class, state=State.PENDING).machine, kind=Kind.PROVISION)
    begun = make_place(lab_class, state=State.STARTING).machine
    make_operation(begun, state=OperationState.RUNNING, started_at=begun.created_at)
    make_operation(begun, state=OperationState.SUCCEEDED, started_at=begun.created_at)
    with django_assert_num_queries(1):
        progress = selectors.pool_progress(lab_class)
    assert (progress.ready, progress.working, progress.waiting, progress.failed, progress.total) == (2, 1, 1, 2, 7 - 1)


def test_the_counts_of_the_class_list_do_not_multiply(django_assert_num_queries):
    lab_class = make_class()
    for state in (State.RUNNING, State.FAILED, State.PENDING):
        make_place(lab_class, state=state)
    for _ in range(4):
        enrol(lab_class)
    empty = make_class("Empty", teacher=lab_class.teacher)
    with django_assert_num_queries(2):
        counts = selectors.counts([lab_class, empty])
    assert counts == {lab_class.pk: selectors.Counts(machines=3, ready=1, failed=1, students=4, waiting=2), empty.pk: selectors.Counts()}


def test_nine_are_ready_one_is_named_with_its_reason_and_retry_makes_it(cluster, world, django_capture_on_commit_callbacks):
    """A class of ten in which one clone fails."""
    world.slowness = 1

    def full_for_the_fourth(point: str, verb: str) -> None:
        if (point, verb) == ("before_call", "create") and world.calls.count("create") == 3:
            world.at = lambda point, verb: None
            raise StorageFull("no space left on device")

    world.at = full_for_the_fourth
    lab_class = make_class("Web basics", template=cluster.templates.get())

    def work_off() -> None:
        for _ in range(40):
            with django_capture_on_commit_callbacks(execute=True):
                executor.drain()
            look_round(cluster)
            if not Operation.objects.filter(state__in=["queued", "running", "waiting"]).exists():
                return

    batch = pool.add_machines(lab_class, 10, acting_user=lab_class.teacher)
    work_off()
    assert (selectors.pool_progress(lab_class).ready, selectors.pool_progress(lab_class).failed) == (9, 1)
    assert (selectors.batch_progress(batch).ready, selectors.batch_progress(batch).failed) == (9, 1)
    failed = selectors.needing_attention(lab_class).get()
    assert failed.machine.problem == "The cluster's storage is full."
    assert selectors.batch_operations(batch)[0].machine == failed.machine
    pool.retry(failed, acting_user=lab_class.teacher)
    work_off()
    assert (selectors.pool_progress(lab_class).ready, selectors.pool_progress(lab_class).failed) == (10, 0)
    assert (selectors.batch_progress(batch).ready, selectors.batch_progress(batch).failed) == (10, 0)
    assert len(world.machines) == 10


def test_retry_of_a_free_machine_gives_it_to_who_waits():
    lab_class = make_class()
    place = make_place(lab_class, state=State.FAILED)
    waiting = enrol(lab_class)
    pool.retry(PoolMachine.objects.get(pk=place.pk), acting_user=lab_class.teacher)
    assert machine_of(waiting) == place.machine


# -- bulk --------------------------------------------------------------------------------------


def test_start_all_is_one_batch_and_skips_what_cannot_start():
    lab_class = make_class()
    off, on, failed = (make_place(lab_class, state=state) for state in (State.STOPPED, State.RUNNING, State.FAILED))
    Machine.objects.filter(pk=on.machine.pk).update(name="lit")
    outcome = bulk.ask_all(lab_class, list(selectors.places(lab_class)), Kind.START, acting_user=lab_class.teacher)
    started = set(outcome.batch.operations.values_list("machine__name", flat=True))
    assert off.machine.name in started and "lit" not in started
    assert ("lit", "lit is on already.") in outcome.skipped
    assert outcome.begun == len(started)
    assert set(outcome.batch.operations.values_list("priority", flat=True)) == {Priority.BULK}
    assert failed.machine.name in started  # a start may mend it


def test_where_nothing_can_be_done_no_batch_is_left_behind():
    lab_class = make_class()
    make_place(lab_class, state=State.RUNNING)
    outcome = bulk.ask_all(lab_class, list(selectors.places(lab_class)), Kind.START, acting_user=lab_class.teacher)
    assert (outcome.batch, outcome.begun, len(outcome.skipped)) == (None, 0, 1)
    assert not Batch.objects.exists()


def test_what_is_at_it_already_is_not_asked_twice():
    lab_class = make_class()
    make_place(lab_class)
    places = list(selectors.places(lab_class))
    bulk.ask_all(lab_class, places, Kind.START, acting_user=lab_class.teacher)
    again = bulk.ask_all(lab_class, places, Kind.START, acting_user=lab_class.teacher)
    assert (again.batch, len(again.skipped)) == (None, 1)
    assert Operation.objects.count() == 1


# -- classes -----------------------------------------------------------------------------------


def test_slugs_differ_and_suit_host_names():
    slugs = [make_class(name).slug for name in ("Web basics", "Web_basics", "Web  Basics!", "机器", "-x-", "Security of the web and of its users", "x" * 90)]
    assert slugs == ["web-basics", "web-basics-2", "web-basics-3", "class", "x", "security-of-the-web-and", "x" * 24]


def test_a_new_size_holds_for_machines_made_from_now_on():
    lab_class = make_class()
    add_machines(lab_class, 1)
    class_services.edit_class(lab_class, acting_user=lab_class.teacher, name="Web", template=lab_class.template, cores=2, memory_mib=1024, disk_gib=None)
    add_machines(lab_class, 1)
    assert [(place.machine.cores, place.machine.memory_mib) for place in selectors.places(lab_class)] == [(1, 512), (2, 1024)]
    assert lab_class.slug == "web-basics"
    assert AuditEntry.objects.get(action="class.edit").data == {"name": "Web", "cores": 2, "memory_mib": 1024}
