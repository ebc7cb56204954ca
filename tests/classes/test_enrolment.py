"""Joining, waiting, leaving."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from classes import selectors
from classes.models import Enrolment, Invite, PoolMachine
from classes.services import classes as class_services
from classes.services import enrolment, invites, pool
from machines.lifecycle import Kind, State
from machines.models import Change, Machine, Operation, OperationState, Priority
from machines.services import sweep, transitions
from machines.services.refusal import Refused
from tests.classes.rows import add_machines, enrol, machine_of, make_class, make_invite, make_place
from tests.factories import make_operation, make_user

pytestmark = pytest.mark.django_db


def test_whoever_joins_gets_the_first_free_machine():
    lab_class = make_class()
    first, second = make_place(lab_class), make_place(lab_class)
    student = make_user()
    joined = enrolment.join(make_invite(lab_class), student=student)
    assert joined.new
    assert machine_of(joined.enrolment) == first.machine
    assert Machine.objects.get(pk=first.machine.pk).owner == student
    assert Machine.objects.get(pk=second.machine.pk).owner is None
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"class.join", "pool.assign"}
    assert Change.objects.filter(topic=f"owner:{student.pk}").exists()
    assert Change.objects.filter(topic=f"class:{lab_class.key}").exists()


def test_a_made_machine_is_given_before_one_that_is_being_made():
    lab_class = make_class()
    pending, provisioning, off, on = (make_place(lab_class, state=state) for state in (State.PENDING, State.PROVISIONING, State.STOPPED, State.RUNNING))
    order = [machine_of(enrol(lab_class)) for _ in range(4)]
    assert order == [place.machine for place in (off, on, provisioning, pending)]


@pytest.mark.parametrize("state", [State.FAILED, State.MISSING, State.DESTROYING, State.DESTROYED])
def test_a_machine_nobody_can_use_is_not_given(state):
    lab_class = make_class()
    make_place(lab_class, state=state)
    assert machine_of(enrol(lab_class)) is None


def test_joining_twice_is_the_same_place_and_one_use():
    lab_class = make_class()
    make_place(lab_class), make_place(lab_class)
    invite, student = make_invite(lab_class, max_uses=1), make_user()
    first = enrolment.join(invite, student=student)
    again = enrolment.join(invite, student=student)
    assert (again.enrolment, again.new) == (first.enrolment, False)
    assert Invite.objects.get(pk=invite.pk).uses == 1
    assert PoolMachine.objects.filter(enrolment__isnull=False).count() == 1


def test_whoever_is_in_the_class_is_welcome_by_a_closed_invite_too():
    lab_class = make_class()
    invite, student = make_invite(lab_class), make_user()
    enrolment.join(invite, student=student)
    invites.revoke_invite(invite, acting_user=lab_class.teacher)
    assert not enrolment.join(invite, student=student).new


def closed_by_time(invite):
    Invite.objects.filter(pk=invite.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def closed_by_use(invite):
    Invite.objects.filter(pk=invite.pk).update(max_uses=3, uses=3)


def closed_by_teacher(invite):
    invites.revoke_invite(invite, acting_user=invite.lab_class.teacher)


def closed_with_class(invite):
    class_services.archive_class(invite.lab_class, acting_user=invite.lab_class.teacher)


@pytest.mark.parametrize(
    ("close", "code"), [(closed_by_time, "expired"), (closed_by_use, "used_up"), (closed_by_teacher, "revoked"), (closed_with_class, "archived")]
)
def test_a_closed_invite_lets_nobody_in(close, code):
    invite = make_invite(make_class())
    close(invite)
    stale = Invite.objects.select_related("lab_class").get(pk=invite.pk)
    with pytest.raises(Refused) as refused:
        enrolment.join(stale, student=make_user())
    assert refused.value.code == code
    assert not Enrolment.objects.exists()


def test_an_invite_that_closed_since_it_was_read_lets_nobody_in():
    invite = make_invite(make_class())
    Invite.objects.filter(pk=invite.pk).update(revoked_at=timezone.now())
    with pytest.raises(Refused, match="withdrawn"):
        enrolment.join(invite, student=make_user())
    assert Invite.objects.get(pk=invite.pk).uses == 0


# -- the waiting list --------------------------------------------------------------------------


def test_the_waiting_list_is_in_the_order_of_joining_and_nobody_overtakes():
    lab_class = make_class()
    waiting = [enrol(lab_class) for _ in range(3)]
    assert [selectors.position(each) for each in waiting] == [1, 2, 3]
    add_machines(lab_class, 2)
    assert [machine_of(each) is not None for each in waiting] == [True, True, False]
    late = enrol(lab_class)
    assert [selectors.position(each) for each in (waiting[2], late)] == [1, 2]
    make_place(lab_class)
    latest = enrol(lab_class)
    assert machine_of(waiting[2]) is not None
    assert machine_of(late) is machine_of(latest) is None


def test_a_machine_that_comes_back_by_itself_goes_to_the_first_who_waits(django_capture_on_commit_callbacks):
    lab_class = make_class()
    place = make_place(lab_class, state=State.MISSING)
    waiting = enrol(lab_class)
    with django_capture_on_commit_callbacks(execute=True):
        transitions.apply(place.machine, transitions.Event.SEEN_OFF)
    assert machine_of(waiting) == place.machine


def test_an_archived_class_gives_no_machine_away_until_it_is_restored():
    lab_class = make_class()
    waiting = enrol(lab_class)
    class_services.archive_class(lab_class, acting_user=lab_class.teacher)
    make_place(lab_class)
    assert pool.fill_waiting_list(lab_class, acting_user=None) == []
    class_services.restore_class(lab_class, acting_user=lab_class.teacher)
    assert machine_of(waiting) is not None


def test_whose_machine_is_gone_from_the_cluster_for_good_waits_again(django_capture_on_commit_callbacks):
    lab_class = make_class()
    place = make_place(lab_class)
    student = enrol(lab_class)
    Machine.objects.filter(pk=place.machine.pk).update(state=State.DESTROYING)
    machine = Machine.objects.get(pk=place.machine.pk)
    with django_capture_on_commit_callbacks(execute=True):
        transitions.apply(machine, transitions.Event.GONE)
    assert machine_of(student) is None
    assert selectors.position(student) == 1


# -- going -------------------------------------------------------------------------------------


def test_a_used_machine_is_destroyed_and_a_fresh_one_with_other_secrets_is_made():
    lab_class = make_class()
    used = make_place(lab_class, state=State.RUNNING)
    left, waiting = enrol(lab_class), enrol(lab_class)
    before = Machine.objects.get(pk=used.machine.pk)
    batch = enrolment.remove_students(lab_class, [left], acting_user=lab_class.teacher)
    old = Machine.objects.get(pk=used.machine.pk)
    assert old.owner is None
    assert old.state == State.DESTROYING
    fresh = machine_of(waiting)
    assert fresh != old
    assert fresh.state == State.PENDING
    assert fresh.password and fresh.password != before.password
    assert fresh.ssh_private_key and fresh.ssh_private_key != before.ssh_private_key
    assert fresh.name != old.name
    assert set(batch.operations.values_list("kind", "priority")) == {(Kind.DESTROY, Priority.REFILL), (Kind.PROVISION, Priority.REFILL)}
    assert not Enrolment.objects.filter(pk=left.pk).exists()
    assert AuditEntry.objects.filter(action="class.remove_student").exists()


def test_a_used_machine_is_never_given_to_anybody_else():
    """Not even where its destroying failed and somebody switched it on again."""
    lab_class = make_class()
    used = make_place(lab_class)
    left = enrol(lab_class)
    enrolment.leave(left)
    Machine.objects.filter(pk=used.machine.pk).update(state=State.RUNNING)
    Operation.objects.all().delete()
    newcomer = enrol(lab_class)
    assert machine_of(newcomer) != used.machine
    assert Machine.objects.get(pk=used.machine.pk).owner is None


def test_the_machine_of_a_deleted_account_is_never_given_to_anybody_else():
    lab_class = make_class()
    used = make_place(lab_class)
    student = make_user()
    enrol(lab_class, student)
    student.delete()
    assert machine_of(enrol(lab_class)) is None
    assert PoolMachine.objects.get(pk=used.pk).is_spent


def test_a_machine_a_worker_has_in_hand_is_destroyed_when_it_comes_to_rest(django_capture_on_commit_callbacks):
    lab_class = make_class()
    used = make_place(lab_class)
    left = enrol(lab_class)
    Machine.objects.filter(pk=used.machine.pk).update(state=State.STARTING)
    operation = make_operation(Machine.objects.get(pk=used.machine.pk), state=OperationState.RUNNING)
    enrolment.leave(left)
    assert Machine.objects.get(pk=used.machine.pk).state == State.STARTING
    Operation.objects.filter(pk=operation.pk).update(state=OperationState.SUCCEEDED)
    with django_capture_on_commit_callbacks(execute=True):
        transitions.apply(Machine.objects.get(pk=used.machine.pk), transitions.Event.SETTLED_ON)
    assert Machine.objects.get(pk=used.machine.pk).state == State.DESTROYING


def test_a_destroying_that_failed_is_not_tried_for_ever(django_capture_on_commit_callbacks):
    lab_class = make_class()
    used = make_place(lab_class)
    enrolment.leave(enrol(lab_class))
    operation = Operation.objects.get(machine=used.machine)
    Operation.objects.filter(pk=operation.pk).update(state=OperationState.FAILED)
    with django_capture_on_commit_callbacks(execute=True):
        transitions.apply(Machine.objects.get(pk=used.machine.pk), transitions.Event.FAIL, problem="The disk is busy.")
    assert Machine.objects.get(pk=used.machine.pk).state == State.FAILED
    assert list(selectors.needing_attention(lab_class)) == [used]
    pool.retry(PoolMachine.objects.get(pk=used.pk), acting_user=lab_class.teacher)
    assert Operation.objects.filter(machine=used.machine).latest("pk").kind == Kind.DESTROY


def test_who_had_no_machine_leaves_none_behind():
    lab_class = make_class()
    assert enrolment.remove_students(lab_class, [enrol(lab_class)], acting_user=lab_class.teacher) is None
    assert not lab_class.pool.exists()


def test_a_student_is_removed_though_no_fresh_machine_can_be_made():
    lab_class = make_class()
    used = make_place(lab_class)
    left = enrol(lab_class)
    lab_class.template.present = False
    lab_class.template.save()
    enrolment.remove_students(lab_class, [left], acting_user=lab_class.teacher)
    assert Machine.objects.get(pk=used.machine.pk).state == State.DESTROYING
    assert AuditEntry.objects.get(action="pool.refill").outcome == "template_missing"


# -- what a crash left ---------------------------------------------------------------------------


def test_the_sweep_gives_destroys_and_retires_what_nobody_came_to():
    """The process that moved these machines died before their classes heard of it."""
    lab_class = make_class()
    lost, back, used = make_place(lab_class), make_place(lab_class, state=State.MISSING), make_place(lab_class)
    seated, left = enrol(lab_class), enrol(lab_class)
    left.delete()
    Machine.objects.filter(pk=lost.machine.pk).update(state=State.DESTROYED)
    Machine.objects.filter(pk=back.machine.pk).update(state=State.STOPPED)
    sweep.sweep()
    assert Machine.objects.get(pk=used.machine.pk).state == State.DESTROYING
    assert machine_of(seated) == back.machine
    assert selectors.unsettled(10) == []


def test_the_sweep_leaves_alone_what_is_settled_or_waits_for_a_person():
    lab_class = make_class()
    used = make_place(lab_class)
    enrolment.leave(enrol(lab_class))
    Operation.objects.filter(machine=used.machine).update(state=OperationState.FAILED)
    Machine.objects.filter(pk=used.machine.pk).update(state=State.FAILED)
    make_place(lab_class, state=State.FAILED)
    enrol(lab_class), enrol(lab_class)
    assert selectors.unsettled(10) == []
    archived = make_class("Old")
    enrol(archived)
    class_services.archive_class(archived, acting_user=archived.teacher)
    make_place(archived)
    assert pool.mend() == 0
