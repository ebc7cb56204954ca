"""What goes wrong while an operation is at work: strangers, halves, outages, errors."""

import pytest
import time_machine
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import State
from machines.models import Machine, OperationState
from machines.providers import errors
from machines.providers.types import Power, Stage
from machines.services import executor, requests, steps, waiting
from tests.machines.providers import fakes

from .conftest import lines, made, new_machine

pytestmark = pytest.mark.django_db


# -- what sits at the ref --------------------------------------------------------------------------


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
    assert operation.state == OperationState.SUCCEEDED and len(world.machines) == 1


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


# -- errors ----------------------------------------------------------------------------------------


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


def test_nothing_is_begun_that_might_outlast_the_worker(cluster, world, carry_on, settings):
    machine = made(cluster, world)
    operation = requests.start(machine, acting_user=None)
    usual = settings.WORKER_TIMEOUT_SECONDS
    settings.WORKER_TIMEOUT_SECONDS = settings.SLICE_SECONDS - 1  # as if looking had taken all the time there is
    executor.drain()
    operation.refresh_from_db()
    assert (operation.state, operation.code, world.calls.count("start")) == (OperationState.QUEUED, "busy", 0)
    settings.WORKER_TIMEOUT_SECONDS = usual
    with time_machine.travel(timezone.now()) as clock:
        clock.shift(5)
        assert carry_on(operation).state == OperationState.SUCCEEDED
