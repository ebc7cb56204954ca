"""Operations from the request to the observed end."""

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import Kind, State
from machines.models import Cluster, Machine, Operation, OperationState
from machines.providers import errors
from machines.providers.types import Power, TaskState, TaskStatus
from machines.services import executor, gateway, requests, steps, waiting
from machines.services.refusal import Refused
from tests.factories import make_user

from .conftest import claim_one, lines, look_round, made, new_machine

pytestmark = pytest.mark.django_db


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


def test_a_snapshot_from_before_the_first_boot_has_no_host_key_in_it(cluster, world, carry_on):
    machine = made(cluster, world)
    carry_on(requests.take_snapshot(machine, acting_user=None, name="fresh"))
    Machine.objects.update(ssh_host_key="ssh-ed25519 FIRST")
    reverted = carry_on(requests.revert(Machine.objects.get(), acting_user=None, snapshot="fresh"))
    assert reverted.state == OperationState.SUCCEEDED and reverted.machine.ssh_host_key == ""


def test_snapshots_are_kept_gone_back_to_and_deleted(cluster, world, carry_on):
    machine = made(cluster, world, State.RUNNING, ssh_host_key="ssh-ed25519 OLD")
    assert carry_on(requests.take_snapshot(machine, acting_user=None, name="monday", note="before the exam")).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert machine.snapshots.get().ready and machine.state == State.RUNNING
    reverted = carry_on(requests.revert(machine, acting_user=None, snapshot="monday"))
    assert reverted.state == OperationState.SUCCEEDED and reverted.machine.ssh_host_key == "ssh-ed25519 OLD"
    # Made anew it has another key, until it goes back to what has the old one in it.
    Machine.objects.update(ssh_host_key="ssh-ed25519 NEW")
    again = carry_on(requests.revert(Machine.objects.get(), acting_user=None, snapshot="monday"))
    assert again.machine.ssh_host_key == "ssh-ed25519 OLD"
    assert carry_on(requests.delete_snapshot(machine, acting_user=None, name="monday")).state == OperationState.SUCCEEDED
    assert not machine.snapshots.exists() and world.ours(str(machine.key))[0].snapshots == []


def test_whether_its_storage_keeps_snapshots_is_known_when_it_is_made(cluster, world, carry_on):
    machine = made(cluster, world, keeps_snapshots=True)
    world.machines[machine.ref].keeps_snapshots = False
    carry_on(requests.start(machine, acting_user=None))
    with pytest.raises(Refused, match="keeps no snapshots"):
        requests.take_snapshot(machine, acting_user=None, name="monday")


def test_a_snapshot_that_fails_leaves_the_machine_as_it_was(cluster, world, carry_on):
    world.task_errors["snapshot"] = [errors.StorageFull("no space")]
    machine = made(cluster, world, State.RUNNING)
    operation = carry_on(requests.take_snapshot(machine, acting_user=None, name="monday"))
    assert (operation.state, operation.code, operation.machine.state) == (OperationState.FAILED, "storage_full", State.RUNNING)
    assert not machine.snapshots.exists()


def test_an_older_snapshot_of_the_name_is_not_taken_for_the_new_one(cluster, world, carry_on):
    """One that was cancelled while the cluster was at it may be there, with a state of long ago."""
    machine = made(cluster, world, State.RUNNING)
    world.machines[machine.ref].snapshots.append("monday")
    operation = carry_on(requests.take_snapshot(machine, acting_user=None, name="monday"))
    assert (operation.state, operation.code, operation.machine.state) == (OperationState.FAILED, "invalid_spec", State.RUNNING)
    assert not machine.snapshots.exists() and world.machines[machine.ref].snapshots == ["monday"]


def test_resize_changes_the_row_when_the_cluster_did(cluster, world, carry_on):
    machine = made(cluster, world)
    operation = carry_on(requests.resize(machine, acting_user=None, cores=4, memory_mib=2048, disk_gib=20))
    assert operation.state == OperationState.SUCCEEDED
    assert (operation.machine.cores, operation.machine.memory_mib, operation.machine.disk_gib) == (4, 2048, 20)
    assert world.ours(str(machine.key))[0].spec.cores == 4


# -- stopping --------------------------------------------------------------------------------------


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


def test_a_stop_lasts_longer_than_the_longest_deadline_a_cluster_may_have():
    (step,) = steps.plan(Operation(kind=Kind.STOP))
    with pytest.raises(ValidationError):
        Cluster._meta.get_field("stop_deadline").clean(step.seconds - 300, None)


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


def test_a_revert_that_was_cancelled_when_the_machine_was_removed_says_so(cluster, world, carry_on):
    world.slowness = 2
    machine = made(cluster, world)
    world.machines[machine.ref].keeps_snapshots = False
    operation = carry_on(requests.revert(machine, acting_user=None), rounds=3)
    assert "removed" in operation.checkpoint and operation.state == OperationState.WAITING
    requests.cancel(operation, acting_user=None)
    machine.refresh_from_db()
    assert (machine.state, machine.problem_code) == (State.FAILED, "cancelled")
    assert requests.retry(machine, acting_user=None).kind == Kind.PROVISION
