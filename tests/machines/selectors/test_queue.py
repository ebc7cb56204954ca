"""What a person who waits is told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from labportal.templatetags.portal import left
from machines.lifecycle import Kind, State
from machines.models import Operation
from machines.selectors.queue import standing, typical_time
from tests.factories import make_cluster, make_machine, make_operation, make_template

pytestmark = pytest.mark.django_db


@pytest.fixture
def template():
    return make_template(make_cluster(limit_create=3, limit_power=2, limit_per_template=3))


def operation(template, **fields):
    fields = {"slot": "boot", "state": "queued", **fields}
    fields.setdefault("kind", Kind.PROVISION if fields["slot"] == "create" else Kind.START)
    return make_operation(make_machine(template=template, state=State.STARTING), **fields)


def past(template, seconds, kind=Kind.START):
    end = timezone.now()
    make_operation(make_machine(template=template), kind=kind, state="succeeded", started_at=end - timedelta(seconds=seconds), finished_at=end)


def test_the_position_counts_those_that_come_sooner_on_the_same_cluster(template):
    bulk = operation(template, priority=50)
    first, second = operation(template), operation(template)
    operation(template, kind=Kind.PROVISION, slot="create")
    operation(make_template(), priority=10)
    assert [standing(one).position for one in (first, second, bulk)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("limits", "slot", "under_way", "reason"),
    [
        ({}, "boot", 0, ""),
        ({}, "boot", 2, "At most 2 machines at a time are switched on or off on this cluster."),
        ({"limit_power": 9, "limit_booting": 1}, "boot", 1, "At most 1 machine boots at a time on this cluster."),
        ({}, "create", 3, "At most 3 machines at a time are made from this template."),
        ({"limit_per_template": 9}, "create", 3, "At most 3 machines at a time are made on this cluster."),
        ({"maintenance": True}, "boot", 0, "Nothing new is begun on this cluster during its maintenance."),
        ({"reachable": False}, "boot", 0, "The cluster does not answer at the moment. It goes on as soon as it does."),
    ],
)
def test_the_reason_is_the_limit_that_holds_it_up(template, limits, slot, under_way, reason):
    for name, value in limits.items():
        setattr(template.cluster, name, value)
    template.cluster.save()
    for _ in range(under_way):
        operation(template, slot=slot, state="waiting")
    assert standing(operation(template, slot=slot)).reason == reason


def test_one_that_backs_off_says_why(template):
    message = "The cluster does not answer at the moment. Trying again in 8 s."
    assert standing(operation(template, not_before=timezone.now() + timedelta(seconds=8), message=message)).reason == message


def test_the_estimate_is_the_median_of_past_runs_of_the_template_or_else_of_the_cluster(template):
    assert typical_time(operation(template)) is None and standing(operation(template)).due is None
    past(make_template(template.cluster, ref="other"), 100)
    past(make_template(), 1000)
    assert typical_time(operation(template)) == timedelta(seconds=100)
    for seconds in (6, 7, 50):
        past(template, seconds)
    past(template, 70, kind=Kind.STOP)
    assert typical_time(operation(template)) == timedelta(seconds=7)


def test_what_usually_takes_no_time_is_not_late_at_once(template):
    past(template, 0.2)
    assert typical_time(operation(template)) == timedelta(seconds=5)


def test_who_stands_behind_others_waits_for_them_too(template):
    past(template, 10)
    queue = [operation(template) for _ in range(5)]
    assert [standing(one).due - one.created_at for one in queue] == [timedelta(seconds=seconds) for seconds in (10, 10, 20, 20, 30)]


def test_a_queue_in_which_nothing_ends_comes_no_nearer(template):
    past(template, 10)
    waiting = operation(template)
    Operation.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    waiting.refresh_from_db()
    Operation.objects.filter(state="succeeded").update(finished_at=timezone.now() - timedelta(minutes=4), started_at=timezone.now() - timedelta(seconds=250))
    assert standing(waiting).due < timezone.now() - timedelta(minutes=3)
    past(template, 10)
    assert standing(waiting).due > timezone.now()


def test_what_is_under_way_is_judged_by_its_start(template):
    past(template, 10)
    running = operation(template, state="waiting", started_at=timezone.now() - timedelta(seconds=4))
    assert standing(running).position == 0 and standing(running).due == running.started_at + timedelta(seconds=10)


def test_an_estimate_that_has_run_out_says_so():
    now = timezone.now()
    assert "about 11 s to go" in left(now + timedelta(seconds=12))
    assert "taking longer than usual" in left(now + timedelta(seconds=0.5)) and "taking longer than usual" in left(now - timedelta(minutes=2))
