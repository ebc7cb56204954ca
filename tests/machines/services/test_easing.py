"""A cluster that has too much to do at once is asked for less, and for more again later."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Machine, Operation, OperationState
from machines.providers.errors import Overloaded
from machines.selectors.load import limit
from machines.services import easing, executor, requests
from tests.factories import make_machine, make_operation

from .conftest import look_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=False) as clock:
        yield clock


def limits(cluster) -> tuple[int, int, int]:
    cluster.refresh_from_db()
    return limit(cluster, "create"), limit(cluster, "template"), limit(cluster, "power")


def test_a_limit_is_halved_once_a_burst_and_grows_back_by_one_a_minute(cluster, clock):
    cluster.limit_create, cluster.limit_per_template, cluster.limit_power = 8, 6, 3
    cluster.save()
    for slot in ["create"] * 8 + ["boot"] * 3:
        make_operation(make_machine(template=cluster.templates.get()), state=OperationState.WAITING, slot=slot)
    seen = [limits(cluster)]
    for slot, seconds in (("create", 5), ("create", 11), ("create", 60), ("boot", 11), ("boot", 11), ("power", 0)):
        easing.ease(cluster, slot)
        seen.append(limits(cluster))
        clock.shift(timedelta(seconds=seconds))
    assert seen == [(8, 6, 3), (4, 4, 3), (4, 4, 3), (2, 2, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)]
    clock.shift(timedelta(minutes=4))
    assert limits(cluster) == (7, 6, 3)
    clock.shift(timedelta(minutes=30))
    assert limits(cluster) == (8, 6, 3)


def test_no_more_is_asked_for_than_was_under_way_when_it_was_too_much(cluster, clock):
    cluster.limit_create = 100
    cluster.save()
    for _ in range(3):
        make_operation(make_machine(template=cluster.templates.get()), state=OperationState.WAITING, slot="create")
    easing.ease(cluster, "create")
    assert limits(cluster)[0] == 2
    easing.ease(cluster, "create")
    assert limits(cluster)[0] == 2


def test_one_that_meets_an_overload_alone_takes_no_more_than_half_from_the_others(cluster, clock):
    cluster.limit_create = 6
    cluster.save()
    make_operation(make_machine(template=cluster.templates.get()), state=OperationState.WAITING, slot="create")
    for _ in range(3):
        easing.ease(cluster, "create")
        clock.shift(timedelta(seconds=3))
    assert limits(cluster)[0] == 3


def test_a_lower_limit_set_by_staff_counts(cluster, clock):
    easing.ease(cluster, "create")
    cluster.refresh_from_db()
    cluster.limit_create = 1
    assert limit(cluster, "create") == 1


def test_all_of_a_class_are_made_where_the_storage_locks_for_two_at_a_time(cluster, world, clock):
    cluster.limit_create = cluster.limit_per_template = 8
    cluster.save()
    world.slowness, refused = 3, []

    def lock(point, verb):
        if point == "before_call" and verb == "create" and sum(task.ticks_left > 0 for task in world.tasks.values()) >= 2:
            refused.append(timezone.now())
            raise Overloaded("can't lock the storage: got timeout")

    world.at = lock
    for number in range(12):
        requests.create_machine(acting_user=None, template=cluster.templates.get(), name=f"web-{number:02}", cores=1, memory_mib=256)
    for _ in range(600):
        executor.drain()
        look_round(cluster)
        clock.shift(timedelta(seconds=1))
        if not Operation.objects.exclude(state=OperationState.SUCCEEDED).exists():
            break
    assert set(Machine.objects.values_list("state", flat=True)) == {State.STOPPED}
    assert refused and len(refused) < 12  # less was asked for: most never met a lock
