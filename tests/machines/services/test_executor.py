"""Operations from the request to the observed end, and what goes wrong on the way."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import Kind, State
from machines.models import Machine, Operation, OperationState
from machines.providers import errors
from machines.providers.types import Power, Stage, TaskState, TaskStatus
from machines.services import executor, gateway, leases, requests, steps, sweep, waiting
from tests.factories import make_cluster, make_machine, make_operation, make_template, make_user
from tests.machines.providers import fakes

from .conftest import claim_one, look_round

pytestmark = pytest.mark.django_db


def new_machine(cluster, **fields) -> tuple[Machine, Operation]:
    wanted = {"acting_user": None, "template": cluster.templates.get(), "name": "web-01", "cores": 1, "memory_mib": 256, **fields}
    machine = requests.create_machine(**wanted)
    return machine, machine.operations.get()


def made(cluster, world, state=State.STOPPED, **fields) -> Machine:
    """A machine that the row and the world agree about."""
    machine = make_machine(template=cluster.templates.get(), state=state, **fields)
    identity = fakes.MachineIdentity(str(machine.key), machine.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[machine.ref] = fakes.FakeMachine(identity, power=Power.ON if state == State.RUNNING else Power.OFF)
    return machine


def lines(operation: Operation) -> list[str]:
    return list(operation.events.values_list("text", flat=True))


@pytest.mark.parametrize("slowness", [0, 1, 3])
def test_a_machine_is_made_and_started_and_every_step_is_told(cluster, world, carry_on, slowness):
    world.slowness = slowness
    machine, operation = new_machine(cluster, start=True)
    carry_on(operation)
    machine.refresh_from_db()
    assert (operation.state, machine.state) == (OperationState.SUCCEEDED, State.RUNNING)
    assert machine.ref == str(machine.key) and machine.made_at is not None
    (there,) = world.ours(str(machine.key))
    assert there.power is Power.ON and there.spec.seed.ssh_keys == (machine.ssh_public_key,)
    assert world.calls.count("create") == world.calls.count("start") == 1
    assert lines(operation) == ["Making the machine from “tiny”.", "The machine is there.", "Switching it on.", "It is on."]
    assert operation.progress == 1 and operation.finished_at and operation.lease == ""
    assert AuditEntry.objects.filter(action="operation.succeeded", object_id=str(machine.key)).count() == 1


def test_a_waiting_operation_holds_no_worker_and_is_asked_after_with_one_call(cluster, world):
    world.slowness = 2
    cluster.limit_create = cluster.limit_per_template = 3
    cluster.save()
    operations = [new_machine(cluster, name=f"web-{number}")[1] for number in range(3)]
    executor.drain()
    assert {operation.state for operation in Operation.objects.all()} == {OperationState.WAITING}
    assert not Operation.objects.exclude(lease="").exists()
    world.calls.clear()
    look_round(cluster)
    assert world.calls == ["poll"]
    operations[0].refresh_from_db()
    assert operations[0].state == OperationState.WAITING and 0 < operations[0].progress < 1
    look_round(cluster)
    assert {operation.state for operation in Operation.objects.all()} == {OperationState.QUEUED}


@pytest.mark.parametrize(
    ("verb", "before", "after", "kind"),
    [
        (requests.start, State.STOPPED, State.RUNNING, Kind.START),
        (requests.stop, State.RUNNING, State.STOPPED, Kind.STOP),
        (requests.force_off, State.RUNNING, State.STOPPED, Kind.FORCE_OFF),
        (requests.restart, State.RUNNING, State.RUNNING, Kind.RESTART),
        (requests.revert, State.RUNNING, State.RUNNING, Kind.REVERT),
        (requests.revert, State.STOPPED, State.STOPPED, Kind.REVERT),
        (requests.destroy, State.RUNNING, State.DESTROYED, Kind.DESTROY),
    ],
)
@pytest.mark.parametrize("slowness", [0, 2])
def test_every_verb_ends_where_it_should(cluster, world, carry_on, verb, before, after, kind, slowness):
    world.slowness = slowness
    machine = made(cluster, world, before, ssh_host_key="ssh-ed25519 OLD")
    operation = carry_on(verb(machine, acting_user=make_user()))
    assert (operation.kind, operation.state, operation.machine.state) == (kind, OperationState.SUCCEEDED, after)
    there = world.ours(str(machine.key))
    assert [vm.power for vm in there] == {State.DESTROYED: [], State.RUNNING: [Power.ON], State.STOPPED: [Power.OFF]}[after]
    if kind == Kind.RESTART:
        assert there[0].reboots == 1
    if kind == Kind.REVERT:
        assert there[0].reverts == 1 and operation.machine.ssh_host_key == ""
    if kind == Kind.DESTROY:
        gone = operation.machine
        assert not any([gone.password, gone.ssh_private_key, gone.ssh_public_key, gone.ssh_host_key, gone.ref])


def test_snapshots_are_kept_gone_back_to_and_deleted(cluster, world, carry_on):
    machine = made(cluster, world, State.RUNNING, ssh_host_key="ssh-ed25519 OLD")
    assert carry_on(requests.take_snapshot(machine, acting_user=None, name="monday", note="before the exam")).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert machine.snapshots.get().ready and machine.state == State.RUNNING
    reverted = carry_on(requests.revert(machine, acting_user=None, snapshot="monday"))
    assert reverted.state == OperationState.SUCCEEDED and reverted.machine.ssh_host_key == "ssh-ed25519 OLD"
    assert carry_on(requests.delete_snapshot(machine, acting_user=None, name="monday")).state == OperationState.SUCCEEDED
    assert not machine.snapshots.exists() and world.ours(str(machine.key))[0].snapshots == []


def test_a_snapshot_that_fails_leaves_the_machine_as_it_was(cluster, world, carry_on):
    world.task_errors["snapshot"] = [errors.StorageFull("no space")]
    machine = made(cluster, world, State.RUNNING)
    operation = carry_on(requests.take_snapshot(machine, acting_user=None, name="monday"))
    assert (operation.state, operation.code, operation.machine.state) == (OperationState.FAILED, "storage_full", State.RUNNING)
    assert not machine.snapshots.exists()


def test_resize_changes_the_row_when_the_cluster_did(cluster, world, carry_on):
    machine = made(cluster, world)
    operation = carry_on(requests.resize(machine, acting_user=None, cores=4, memory_mib=2048, disk_gib=20))
    assert operation.state == OperationState.SUCCEEDED
    assert (operation.machine.cores, operation.machine.memory_mib, operation.machine.disk_gib) == (4, 2048, 20)
    assert world.ours(str(machine.key))[0].spec.cores == 4


# -- stopping ----------------------------------------------------------------------------------


def test_a_guest_that_ignores_the_power_button_is_switched_off_at_the_deadline(cluster, world, carry_on):
    machine = made(cluster, world, State.RUNNING)
    world.machines[machine.ref].deaf = True
    operation = requests.stop(machine, acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        carry_on(operation, rounds=3)
        assert operation.state == OperationState.WAITING and world.machines[machine.ref].power is Power.ON
        clock.shift(cluster.stop_deadline + 1)
        carry_on(operation)
    assert (operation.state, operation.machine.state) == (OperationState.SUCCEEDED, State.STOPPED)
    assert lines(operation)[0] == "Asking the guest to shut down; after 60 s it is switched off by force."
    assert "The guest did not shut down within 60 s. It is switched off by force." in lines(operation)


def test_force_off_does_not_wait_for_a_deaf_guest(cluster, world, carry_on):
    machine = made(cluster, world, State.RUNNING)
    world.machines[machine.ref].deaf = True
    operation = carry_on(requests.stop(machine, acting_user=None), rounds=2)
    requests.force_off(machine, acting_user=make_user("tina"))
    carry_on(operation)
    assert operation.machine.state == State.STOPPED
    assert any("tina asked to switch it off by force" in line for line in lines(operation))


def test_force_asked_for_while_a_worker_has_the_stop_in_hand_is_seen_when_it_parks(cluster, world, carry_on):
    machine = made(cluster, world, State.RUNNING)
    world.machines[machine.ref].deaf = True
    stopping = requests.stop(machine, acting_user=None)
    in_hand = claim_one()
    requests.force_off(machine, acting_user=None)
    executor.run_batch([in_hand])
    carry_on(stopping)
    assert stopping.machine.state == State.STOPPED


def test_an_old_answer_about_a_task_is_not_taken_for_one_about_the_next(cluster, world, monkeypatch):
    """While the cluster was asked after the power button's task, the stop was told to use force."""
    machine = made(cluster, world, State.RUNNING)
    world.machines[machine.ref].deaf, world.slowness = True, 5
    operation = requests.stop(machine, acting_user=None)
    executor.drain()
    provider = gateway.provider_for(cluster)

    def asked(tasks):
        requests.force_off(machine, acting_user=None)
        executor.drain()
        return {task: TaskStatus(TaskState.FAILED, error=errors.TaskFailed("the guest ignored it")) for task in tasks}

    monkeypatch.setattr(provider, "poll", asked)
    assert waiting.poll(cluster, provider) == 0
    operation.refresh_from_db()
    assert operation.state == OperationState.WAITING and operation.checkpoint["tries"] == {"force": 1} and "error" not in operation.checkpoint


def test_waiting_for_a_guest_takes_nothing_from_the_limits(cluster, world):
    cluster.limit_power = 1
    cluster.save()
    for _ in range(2):
        machine = made(cluster, world, State.RUNNING)
        world.machines[machine.ref].deaf = True
        requests.stop(machine, acting_user=None)
    executor.drain()
    assert Operation.objects.filter(state=OperationState.WAITING).count() == 2


# -- what sits at the ref ----------------------------------------------------------------------


def test_a_stranger_at_the_ref_is_left_alone_and_another_ref_taken(cluster, world, carry_on):
    machine, operation = new_machine(cluster)
    world.settle_in(str(machine.key))
    carry_on(operation)
    machine.refresh_from_db()
    assert operation.state == OperationState.SUCCEEDED
    assert world.untouched(str(machine.key)) and machine.ref != str(machine.key)
    assert len(world.ours(str(machine.key))) == 1
    assert "Something that is not ours is in the machine's place. It is left alone and another place taken." in lines(operation)


def test_half_a_machine_is_removed_and_made_again(cluster, world, carry_on):
    world.slowness = 1
    world.task_errors["create"] = [errors.TaskFailed("the copy broke off")]
    machine, operation = new_machine(cluster)
    carry_on(operation)
    assert operation.state == OperationState.SUCCEEDED
    assert world.calls.count("create") == 2 and world.calls.count("destroy") == 1
    assert [vm.stage for vm in world.ours(str(machine.key))] == [Stage.READY]


def test_a_machine_whose_disk_is_gone_says_so_and_is_made_again_when_asked(cluster, world, carry_on):
    machine = made(cluster, world)
    world.machines[machine.ref].stage = Stage.BROKEN
    operation = carry_on(requests.start(machine, acting_user=None))
    machine.refresh_from_db()
    assert (operation.state, operation.code, machine.state) == (OperationState.FAILED, "incomplete", "failed")
    assert "disk is gone" in machine.problem
    assert world.calls.count("destroy") == 0  # nothing is thrown away before somebody asks for it
    assert carry_on(requests.retry(machine, acting_user=None)).state == OperationState.SUCCEEDED
    assert [vm.stage for vm in world.ours(str(machine.key))] == [Stage.READY]


def test_a_machine_that_is_there_already_is_adopted(cluster, world, carry_on):
    machine, operation = new_machine(cluster)
    identity = fakes.MachineIdentity(str(machine.key), machine.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[str(machine.key)] = fakes.FakeMachine(identity)
    carry_on(operation)
    assert operation.state == OperationState.SUCCEEDED and "create" not in world.calls


@pytest.mark.parametrize("verb", [requests.start, requests.revert, requests.restart, requests.stop])
def test_no_verb_touches_a_stranger(cluster, world, carry_on, verb):
    machine = made(cluster, world, State.RUNNING if verb in (requests.restart, requests.stop) else State.STOPPED)
    world.settle_in(machine.ref)
    operation = carry_on(verb(machine, acting_user=None))
    assert (operation.state, operation.code, operation.machine.state) == (OperationState.FAILED, "foreign_machine", State.FAILED)
    assert world.untouched(machine.ref)


def test_destroying_leaves_a_stranger_alone(cluster, world, carry_on):
    machine = made(cluster, world)
    ref = machine.ref
    world.settle_in(ref)
    operation = carry_on(requests.destroy(machine, acting_user=None))
    assert operation.machine.state == State.DESTROYED and world.untouched(ref)


def test_a_machine_that_vanished_is_said_to_be_missing_and_is_made_anew_on_request(cluster, world, carry_on):
    machine = made(cluster, world, ssh_host_key="ssh-ed25519 OLD")
    world.machines.clear()
    operation = carry_on(requests.start(machine, acting_user=None))
    assert (operation.state, operation.code, operation.machine.state) == (OperationState.FAILED, "missing", State.MISSING)
    again = carry_on(requests.retry(operation.machine, acting_user=None))
    assert (again.state, again.machine.state, again.machine.ssh_host_key) == (OperationState.SUCCEEDED, State.STOPPED, "")


# -- errors ------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_tried_again_with_a_visible_reason_and_no_attempt_is_used_up(cluster, world, carry_on):
    world.outage = True
    machine = made(cluster, world)
    operation = requests.start(machine, acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        for _ in range(8):
            executor.drain()
            clock.shift(40)
        operation.refresh_from_db()
        assert operation.state == OperationState.QUEUED and operation.attempt == 0 and operation.code == "unreachable"
        assert operation.message.startswith("The cluster does not answer at the moment. Trying again in ")
        assert len(lines(operation)) == 1  # said once, not eight times
        world.outage = False
        carry_on(operation)
    assert operation.state == OperationState.SUCCEEDED


def test_trouble_ends_after_a_time_with_its_reason(cluster, world):
    world.outage = True
    operation = requests.start(made(cluster, world), acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        for _ in range(40):
            executor.drain()
            clock.shift(31)
    operation.refresh_from_db()
    assert (operation.state, operation.code) == (OperationState.FAILED, "unreachable")
    assert operation.machine.state == State.FAILED and "does not answer" in Machine.objects.get().problem


def test_when_the_cluster_answers_again_nobody_waits_out_the_back_off(cluster, world, carry_on):
    world.outage = True
    operation = requests.start(made(cluster, world), acting_user=None)
    executor.drain()
    world.outage = False
    waiting.hurry(cluster)
    assert carry_on(operation, rounds=1).state == OperationState.SUCCEEDED


def test_what_cannot_be_done_fails_at_once_with_its_reason(cluster, world, carry_on):
    world.templates.clear()
    machine, operation = new_machine(cluster)
    carry_on(operation)
    machine.refresh_from_db()
    assert (operation.state, operation.code, operation.detail) == (OperationState.FAILED, "template_missing", "tiny")
    assert (machine.state, machine.problem_code) == (State.FAILED, "template_missing")
    assert machine.problem == "The template of this machine is gone from the cluster."
    assert AuditEntry.objects.get(action="operation.failed").outcome == "failed"
    world.templates.add("tiny")
    assert carry_on(requests.retry(machine, acting_user=None)).machine.state == State.STOPPED


def test_an_error_of_our_own_fails_the_operation_and_keeps_the_traceback(cluster, world, monkeypatch, caplog):
    operation = requests.start(made(cluster, world), acting_user=None)
    world.at = lambda point, verb: 1 / 0
    executor.drain()
    operation.refresh_from_db()
    assert (operation.state, operation.code) == (OperationState.FAILED, "internal")
    assert "ZeroDivisionError" in operation.detail and "ZeroDivisionError" not in operation.message


def test_a_deed_that_is_never_to_be_seen_is_not_repeated_for_ever(cluster, world, carry_on):
    machine = made(cluster, world)
    world.at = lambda point, verb: setattr(world.machines[machine.ref], "power", Power.OFF)
    operation = carry_on(requests.start(machine, acting_user=None))
    assert (operation.state, operation.code) == (OperationState.FAILED, "task_failed")
    assert world.calls.count("start") == 3


def test_a_task_that_fails_is_told_with_its_reason(cluster, world, carry_on):
    world.slowness = 1
    world.task_errors["start"] = [errors.StorageFull("pool is full")]
    operation = carry_on(requests.start(made(cluster, world), acting_user=None))
    assert (operation.state, operation.code, operation.detail) == (OperationState.FAILED, "storage_full", "pool is full")


def test_a_revert_whose_task_failed_is_not_taken_for_done(cluster, world, carry_on):
    world.slowness = 1
    world.task_errors["revert"] = [errors.Busy("locked")]
    machine = made(cluster, world)
    with time_machine.travel(timezone.now()) as clock:
        operation = carry_on(requests.revert(machine, acting_user=None), rounds=3)
        clock.shift(5)
        carry_on(operation)
    assert operation.state == OperationState.SUCCEEDED and world.machines[machine.ref].reverts == 1 and world.calls.count("revert") == 2


def test_a_task_that_never_ends_fails_the_operation_in_the_end(cluster, world, carry_on):
    world.slowness = 10**9
    operation = requests.start(made(cluster, world), acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        carry_on(operation, rounds=2)
        clock.shift(steps.plan(operation)[0].seconds + 1)
        carry_on(operation)
    assert (operation.state, operation.code) == (OperationState.FAILED, "task_failed")
    assert operation.message == "The cluster did not finish this in time."


# -- leases ------------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_calls_nothing_and_writes_nothing(cluster, world, carry_on):
    machine = made(cluster, world)
    operation = requests.start(machine, acting_user=None)
    zombie = claim_one()
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert sweep.resume_abandoned() == 1
        carry_on(operation)
        world.calls.clear()
        executor.run_batch([zombie])
    assert world.calls == ["find"]
    assert Operation.objects.get().state == OperationState.SUCCEEDED
    assert operation.events.filter(text__contains="Another one goes on").exists()
    with pytest.raises(leases.LeaseLost):
        leases.write(zombie, state="failed")


def test_a_worker_whose_lease_ran_out_acts_no_more_even_before_the_sweep_came(cluster, world):
    requests.start(made(cluster, world), acting_user=None)
    late = claim_one()
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        executor.run_batch([late])
    assert "start" not in world.calls and Operation.objects.get().state == OperationState.RUNNING


def test_an_operation_that_kills_its_workers_is_given_up(cluster, world, settings):
    operation = requests.start(made(cluster, world), acting_user=None)
    with time_machine.travel(timezone.now()) as clock:
        for _ in range(settings.OPERATION_ATTEMPTS):
            assert claim_one() == operation
            clock.shift(61)
            sweep.sweep()
        assert claim_one() is None
    operation.refresh_from_db()
    assert (operation.state, operation.code) == (OperationState.FAILED, "worker_lost")
    assert operation.machine.state == State.FAILED


def test_two_workers_never_have_the_same_operation(cluster, world):
    requests.start(made(cluster, world), acting_user=None)
    assert claim_one() is not None
    assert claim_one() is None


# -- several at once ---------------------------------------------------------------------------


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


# -- who is next -------------------------------------------------------------------------------


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


def test_machines_that_boot_count_until_they_answer(cluster, world):
    cluster.limit_booting = 1
    cluster.save()
    booting = made(cluster, world, State.RUNNING)
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
