"""Who watches a cluster, and what one turn of it does."""

import itertools
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Cluster, Operation, OperationState
from machines.providers.types import TaskRef
from machines.services import executor, gateway, inventory, requests, waiting, watch
from tests.factories import make_machine
from tests.machines.providers.fakes import FakeProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def watcher(cluster, monkeypatch):
    """A watch that is turned by hand and pauses not at all."""
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda seconds: pauses.append(seconds))
    pauses: list[float] = []
    found = watch.ClusterWatch(cluster.pk, "me", stop)
    found.pauses = pauses
    return found


def test_one_watcher_leads_and_another_follows_when_it_is_gone(cluster):
    with time_machine.travel(timezone.now()) as clock:
        assert watch.lead(cluster, "first")
        cluster.refresh_from_db()
        assert not watch.lead(cluster, "second")
        clock.shift(watch.LEAD_SECONDS - 1)
        assert watch.lead(cluster, "first")
        cluster.refresh_from_db()
        clock.shift(watch.LEAD_SECONDS + 1)
        assert watch.lead(cluster, "second") and not watch.lead(cluster, "first")
        watch.resign("second")
        cluster.refresh_from_db()
        assert watch.lead(cluster, "first")


def test_a_lease_outlives_a_long_look(cluster, watcher, monkeypatch):
    with time_machine.travel(timezone.now()) as clock:
        monkeypatch.setattr(waiting, "poll", lambda *_args, **_more: led.append(watch.lead(Cluster.objects.get(), "another")))
        monkeypatch.setattr(inventory, "look", lambda *_args: (clock.shift(25), led.append(watch.lead(Cluster.objects.get(), "another")), clock.shift(4)))
        led: list[bool] = []
        watcher.turn()
        clock.shift(watch.RENEW_SECONDS - 0.5)
        watcher._next_inventory = 0.0
        watcher.turn()
        clock.shift(25)
        assert led == [False] * 4 and not watch.lead(Cluster.objects.get(), "another")


def test_a_fresh_lease_is_not_written_again_every_second(cluster, django_assert_num_queries):
    watch.lead(cluster, "me")
    cluster.refresh_from_db()
    with django_assert_num_queries(0):
        assert watch.lead(cluster, "me")


def test_a_watcher_that_does_not_lead_asks_the_cluster_nothing(cluster, world, watcher):
    watch.lead(cluster, "another")
    assert watcher.turn() and not watcher.leads and world.calls == []


@pytest.fixture
def errands(watcher):
    return watch.ClusterErrands(watcher, watcher._stop_asked)


def test_a_turn_looks_at_the_cluster_and_its_tasks(cluster, world, watcher):
    world.slowness = 1
    machine = requests.create_machine(acting_user=None, template=cluster.templates.get(), name="a", cores=1, memory_mib=256)
    executor.drain()
    world.calls.clear()
    assert watcher.turn() and watcher.leads
    assert world.calls == ["inventory", "poll"]
    assert watcher.pauses == [watch.TURN_SECONDS, watch.POLL_SECONDS]  # sooner than the next inventory, as something is waited for
    world.tick()
    watcher.turn()
    assert world.calls[2:] == ["poll"]
    assert machine.operations.get().state == OperationState.QUEUED


def test_tasks_are_asked_after_less_and_less_often():
    clock = itertools.count(0, 35)  # hundredths of a second, as the watcher turns
    now = [0.0]
    pace = waiting.Pace(lambda: now[0])
    asked = []
    for hundredths in itertools.takewhile(lambda time: time < 30_00, clock):
        now[0] = hundredths / 100
        tasks = [TaskRef("old")] if now[0] < 20 else [TaskRef("old"), TaskRef("young")]
        if pace.is_due(tasks, 2.0):
            asked.append(now[0])
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert max(pauses) < 2.5 and len([at for at in asked if at < 5]) <= 8 and len([at for at in asked if at < 20]) <= 16
    assert len([at for at in asked if 20 <= at < 22]) >= 4  # one that has just begun may soon have ended


def test_a_cluster_that_polls_cost_nothing_is_asked_at_every_turn():
    pace = waiting.Pace(lambda: 7.0)
    assert all(pace.is_due([TaskRef("a")], 0.0) for _ in range(3))


def test_operations_are_called_back_in_time_though_their_tasks_are_not_asked_after(cluster, world, watcher, monkeypatch):
    monkeypatch.setattr(FakeProvider, "capabilities", replace(FakeProvider.capabilities, poll_seconds=3600))
    world.slowness = 9
    requests.create_machine(acting_user=None, template=cluster.templates.get(), name="a", cores=1, memory_mib=256)
    executor.drain()
    now = [1000.0]
    watcher._pace = waiting.Pace(lambda: now[0])
    watcher.turn()
    now[0] += 100
    watcher.turn()
    now[0] += 10
    world.calls.clear()
    watcher.turn()
    assert world.calls == []
    operation = Operation.objects.get()
    operation.checkpoint["until"] = timezone.now().isoformat()
    operation.save()
    watcher.turn()
    operation.refresh_from_db()
    assert world.calls == [] and operation.state == OperationState.QUEUED


def test_templates_are_read_once_a_minute_and_when_somebody_wishes_it(cluster, world, watcher, errands):
    assert errands.turn() and world.calls == []  # somebody else may lead
    watcher.turn()
    world.calls.clear()
    for _ in range(2):
        assert errands.turn()
    assert world.calls == ["templates"] and watcher.pauses[-1] == watch.ERRANDS_SECONDS
    Cluster.objects.update(sync_asked_at=timezone.now())
    for _ in range(2):
        errands.turn()
    cluster.refresh_from_db()
    assert world.calls == ["templates", "templates"] and cluster.sync_asked_at is None


def test_a_wish_waits_for_a_cluster_that_does_not_answer(cluster, world, watcher, errands):
    watcher.turn()
    Cluster.objects.update(sync_asked_at=timezone.now())
    world.outage = True
    assert errands.turn() and watcher.pauses[-1] == watch.TROUBLE_SECONDS
    world.outage = False
    errands.turn()
    cluster.refresh_from_db()
    assert cluster.sync_asked_at is None and cluster.reachable


def test_what_is_wrong_with_the_settings_answers_a_wish(cluster, watcher, errands):
    watcher.turn()
    Cluster.objects.update(kind="vax", check_asked_at=timezone.now())
    gateway.close_providers()
    errands.turn()
    cluster.refresh_from_db()
    assert cluster.check_asked_at is None and [line["ok"] for line in cluster.report.checks] == [False]


def test_a_cluster_that_does_not_answer_is_noted_and_looked_at_again_later(cluster, world, watcher):
    world.outage = True
    assert watcher.turn()
    cluster.refresh_from_db()
    assert not cluster.reachable and watcher.pauses == [watch.TROUBLE_SECONDS]
    world.outage = False
    watcher.turn()
    cluster.refresh_from_db()
    assert cluster.reachable and cluster.problem == ""


def test_deadlines_pass_though_the_cluster_does_not_answer(cluster, world, watcher):
    machine = make_machine(template=cluster.templates.get(), state=State.STOPPING)
    past = (timezone.now() - timedelta(seconds=1)).isoformat()
    operation = Operation.objects.create(
        machine=machine, kind="stop", state="waiting", not_before=timezone.now(), checkpoint={"tasks": [{"id": "task0"}], "until": past}
    )
    world.outage = True
    watcher.turn()
    operation.refresh_from_db()
    assert operation.state == OperationState.QUEUED


def test_a_kind_of_cluster_that_is_not_installed_is_said(cluster, watcher):
    Cluster.objects.update(kind="vax")
    gateway.close_providers()
    assert watcher.turn()
    cluster.refresh_from_db()
    assert not cluster.reachable and cluster.problem


def test_deadlines_pass_though_the_settings_of_the_cluster_are_wrong(cluster, world, watcher):
    past = (timezone.now() - timedelta(seconds=1)).isoformat()
    waiting = {"kind": "stop", "state": "waiting", "not_before": timezone.now(), "checkpoint": {"tasks": [{"id": "task0"}], "until": past}}
    operation = Operation.objects.create(machine=make_machine(template=cluster.templates.get(), state=State.STOPPING), **waiting)
    Cluster.objects.update(kind="vax")
    gateway.close_providers()
    watcher.turn()
    operation.refresh_from_db()
    assert operation.state == OperationState.QUEUED


def test_a_cluster_that_was_removed_is_watched_no_more(cluster, watcher):
    cluster.templates.all().delete()
    cluster.delete()
    assert not watcher.turn()


def test_a_chore_that_fails_keeps_nobody_from_theirs(caplog):
    done = []

    def fails():
        raise ZeroDivisionError

    chores = [watch.Chore(60, fails), watch.Chore(60, lambda: done.append(1))]
    for _ in range(2):
        for chore in chores:
            chore.run_if_due()
    assert done == [1] and "fails failed" in caplog.text
