"""What a request writes, and what it refuses."""

import pytest
from django_q.models import OrmQ

from accounts.models import AuditEntry
from machines.lifecycle import Kind, State
from machines.models import Change, Machine, Operation, OperationState, Priority
from machines.services import requests, transitions
from machines.services.refusal import Refused
from tests.factories import make_machine, make_operation, make_template, make_user

pytestmark = pytest.mark.django_db


def test_a_machine_in_which_no_account_can_be_made_has_none(client):
    owner = make_user()
    machine = requests.create_machine(acting_user=owner, template=make_template(seeded=False), name="box", owner=owner, cores=1, memory_mib=512)
    assert not any([machine.username, machine.password, machine.ssh_private_key, machine.ssh_public_key])
    client.force_login(owner)
    text = client.get(f"/machines/{machine.key}/").content.decode()
    assert "users and passwords of its template" in text and "Show user and password" not in text


def test_a_new_machine_comes_with_credentials_of_its_own_and_the_operation_that_makes_it():
    student, template = make_user(), make_template(username="ada")
    machine = requests.create_machine(acting_user=student, template=template, name="web-07", owner=student, cores=2, memory_mib=1024, start=True)
    other = requests.create_machine(acting_user=student, template=template, name="web-08", owner=student, cores=2, memory_mib=1024)

    assert machine.state == State.PENDING and machine.ref == ""
    operation = machine.operations.get()
    assert (operation.kind, operation.state, operation.params, operation.requested_by) == (Kind.PROVISION, "queued", {"start": True}, student)
    stored = Machine.objects.get(pk=machine.pk)
    assert stored.username == "ada" and len(stored.password) >= 16 and stored.ssh_private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert stored.ssh_public_key.startswith("ssh-ed25519 ")
    assert {stored.password, stored.ssh_public_key}.isdisjoint({other.password, other.ssh_public_key})
    entry = AuditEntry.objects.filter(action="machine.provision").last()
    assert entry.actor == student and entry.object_id == str(machine.key)
    assert stored.password not in str(list(AuditEntry.objects.values_list("data", flat=True)))
    topics = set(Change.objects.values_list("topic", flat=True))
    assert {f"machine:{machine.key}", f"owner:{student.pk}", f"operation:{operation.key}"} <= topics
    assert OrmQ.objects.exists()


def test_start_pressed_in_two_tabs_is_one_operation():
    machine, student = make_machine(), make_user()
    first = requests.start(machine, acting_user=student)
    second = requests.start(Machine.objects.get(pk=machine.pk), acting_user=student)
    assert first == second
    assert machine.operations.count() == 1 and machine.state == State.STARTING
    assert AuditEntry.objects.filter(action="machine.start").count() == 1


def test_a_person_hurries_what_was_queued_as_bulk():
    machine = make_machine()
    requests.start(machine, acting_user=None, priority=Priority.BULK)
    assert requests.start(machine, acting_user=make_user()).priority == Priority.PERSON
    assert requests.start(machine, acting_user=None, priority=Priority.BULK).priority == Priority.PERSON


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        (State.RUNNING, "start"),
        (State.STOPPED, "stop"),
        (State.STOPPED, "restart"),
        (State.MISSING, "start"),
        (State.MISSING, "revert"),
        (State.DESTROYED, "start"),
        (State.DESTROYED, "destroy"),
    ],
)
def test_what_cannot_be_done_now_is_refused_in_words_and_writes_nothing(state, verb):
    machine = make_machine(state=state)
    with pytest.raises(Refused) as refused:
        getattr(requests, verb)(machine, acting_user=make_user())
    assert refused.value.code == "not_now" and machine.name in refused.value.message
    assert not Operation.objects.exists() and not AuditEntry.objects.exists() and not OrmQ.objects.exists()


def test_another_wish_while_one_is_at_work_is_refused():
    machine = make_machine(state=State.RUNNING)
    requests.restart(machine, acting_user=None)
    with pytest.raises(Refused) as refused:
        requests.stop(machine, acting_user=None)
    assert refused.value.code == "busy" and "Restart" in refused.value.message


def test_a_request_overtaken_by_another_writes_nothing(monkeypatch):
    machine = make_machine()

    def overtaken(*_args, **_kwargs):
        raise transitions.Overtaken

    monkeypatch.setattr(transitions, "apply", overtaken)
    with pytest.raises(transitions.Overtaken):
        requests.start(machine, acting_user=None)
    assert not Operation.objects.exists() and not OrmQ.objects.exists()


def test_a_transition_is_written_only_over_the_state_it_was_decided_on():
    machine = make_machine(state=State.STOPPED)
    stale = Machine.objects.get(pk=machine.pk)
    transitions.apply(machine, "start")
    with pytest.raises(transitions.Overtaken):
        transitions.apply(stale, "start")


def test_force_escalates_a_stop_that_waits_for_the_guest():
    machine = make_machine(state=State.RUNNING)
    stopping = requests.stop(machine, acting_user=None)
    Operation.objects.filter(pk=stopping.pk).update(state=OperationState.WAITING)
    student = make_user()
    forced = requests.force_off(machine, acting_user=student)
    assert forced == stopping and forced.params["force"] is True and forced.state == OperationState.QUEUED
    assert requests.force_off(machine, acting_user=student) == stopping
    assert AuditEntry.objects.filter(action="machine.force_off", actor=student).count() == 1


def test_force_off_without_a_stop_is_an_operation_of_its_own():
    assert requests.force_off(make_machine(state=State.RUNNING), acting_user=None).kind == Kind.FORCE_OFF


@pytest.mark.parametrize(("state", "power", "start"), [(State.RUNNING, "on", True), (State.STOPPED, "off", False), (State.FAILED, "on", True)])
def test_revert_remembers_whether_the_machine_was_on(state, power, start):
    machine = make_machine(state=state, power=power)
    assert requests.revert(machine, acting_user=None).params == {"snapshot": "", "start": start}
    assert requests.revert(machine, acting_user=None) == machine.operations.get()


def test_revert_to_a_snapshot_that_is_not_there_is_refused():
    with pytest.raises(Refused, match="no snapshot"):
        requests.revert(make_machine(), acting_user=None, snapshot="monday")


def test_cancel_ends_what_waits_and_settles_the_machine_as_last_seen():
    machine = make_machine(state=State.RUNNING)
    operation = requests.stop(machine, acting_user=None)
    requests.cancel(operation, acting_user=make_user("tina"))
    machine.refresh_from_db()
    assert (operation.state, machine.state) == (OperationState.CANCELLED, State.RUNNING)
    assert "tina" in operation.events.last().text
    assert requests.cancel(operation, acting_user=None).state == OperationState.CANCELLED


def test_cancel_before_anything_was_made_says_so():
    machine = requests.create_machine(acting_user=None, template=make_template(), name="a", cores=1, memory_mib=256)
    requests.cancel(machine.operations.get(), acting_user=None)
    machine.refresh_from_db()
    assert machine.state == State.FAILED and machine.problem_code == "cancelled"


def test_cancel_leaves_alone_what_a_worker_has_in_hand():
    operation = make_operation(state="running")
    with pytest.raises(Refused) as refused:
        requests.cancel(operation, acting_user=None)
    assert refused.value.code == "busy"


def test_destroy_ends_what_waits_first():
    machine = requests.create_machine(acting_user=None, template=make_template(), name="a", cores=1, memory_mib=256)
    making = machine.operations.get()
    operation = requests.destroy(machine, acting_user=None)
    making.refresh_from_db()
    assert (making.state, operation.kind, machine.state) == (OperationState.CANCELLED, Kind.DESTROY, State.DESTROYING)


@pytest.mark.parametrize(
    ("failed", "tried"), [(Kind.START, Kind.START), (Kind.PROVISION, Kind.PROVISION), (Kind.RESTART, Kind.PROVISION), (Kind.DESTROY, Kind.DESTROY)]
)
def test_try_again_repeats_what_failed_where_that_can_be(failed, tried):
    machine = make_machine(state=State.FAILED)
    make_operation(machine, kind=failed, state="failed", params={"start": True})
    assert requests.retry(machine, acting_user=None).kind == tried


@pytest.mark.parametrize("state", [State.RUNNING, State.STOPPED, State.DESTROYED])
def test_nothing_is_tried_again_with_a_machine_that_is_well(state):
    """An old page still shows the button; what failed, before the machine was seen on again, was its removal."""
    machine = make_machine(state=state)
    make_operation(machine, kind=Kind.DESTROY, state="failed")
    with pytest.raises(Refused) as refused:
        requests.retry(machine, acting_user=None)
    assert refused.value.code == "not_now" and machine.operations.count() == 1


def test_try_again_makes_a_missing_machine_anew():
    machine = make_machine(state=State.MISSING)
    assert requests.retry(machine, acting_user=None).kind == Kind.PROVISION


@pytest.mark.parametrize("name", ["", "-a", "a b", "a_b", "x" * 64, "<b>"])
def test_a_name_that_is_no_host_name_is_refused(name):
    with pytest.raises(Refused, match="cannot be a machine"):
        requests.create_machine(acting_user=None, template=make_template(), name=name, cores=1, memory_mib=256)


def test_nothing_is_made_of_a_template_that_is_gone():
    with pytest.raises(Refused, match="gone from the cluster"):
        requests.create_machine(acting_user=None, template=make_template(present=False), name="a", cores=1, memory_mib=256)
