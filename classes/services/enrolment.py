"""Coming into a class and going."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import audit
from classes.models import Enrolment, Invite, LabClass, PoolMachine
from machines.models import Batch
from machines.services.feed import publish

from . import invites, pool


@dataclass(frozen=True)
class Joined:
    """`new` is False for somebody who was in the class before; nothing changed then."""

    enrolment: Enrolment
    new: bool


def join(invite: Invite, *, student: User) -> Joined:
    """Enrol `student` and give them the first free machine of the class, or a place on the
    waiting list, which fills by itself. Two people never get the same machine: the class is
    locked while one is chosen. Raises Refused where the invite is closed."""
    lab_class = invite.lab_class
    with transaction.atomic():
        pool.lock(lab_class)
        before = Enrolment.objects.filter(lab_class=lab_class, student=student).first()
        if before is not None:
            return Joined(before, new=False)
        if (closed := invites.why_closed(invite)) is not None:
            raise closed
        invites.use(invite)
        enrolment = Enrolment.objects.create(lab_class=lab_class, student=student)
        lab_class.kept_out.remove(student)
        audit.record("class.join", acting_user=student, target=lab_class, invite=invite.pk)
        pool.fill_waiting_list(lab_class, acting_user=student)
        publish(pool.topic(lab_class), f"owner:{student.pk}")
    return Joined(enrolment, new=True)


def enrol(lab_class: LabClass, students: Sequence[User], *, acting_user: User) -> None:
    """Staff put these people into the class; those who are in it stay as they are. Inside a transaction."""
    pool.lock(lab_class)
    here = set(lab_class.enrolments.values_list("student", flat=True))
    come = [student for student in students if student.pk not in here]
    Enrolment.objects.bulk_create([Enrolment(lab_class=lab_class, student=student) for student in come])
    lab_class.kept_out.remove(*come)
    for student in come:
        audit.record("class.join", acting_user=acting_user, target=lab_class, student=student.get_username(), by="import")
    pool.fill_waiting_list(lab_class, acting_user=acting_user)
    publish(pool.topic(lab_class), *(f"owner:{student.pk}" for student in come))


def leave(enrolment: Enrolment) -> None:
    """The student goes by themselves. Their machine is destroyed and replaced."""
    _end(enrolment.lab_class, [enrolment], acting_user=enrolment.student, action="class.leave")


def remove_students(lab_class: LabClass, enrolments: Sequence[Enrolment], *, acting_user: User) -> Batch | None:
    """Their machines are destroyed, and fresh ones with new credentials are made in their place:
    nobody finds what somebody else left. Returns the batch that does so, None where nobody had one."""
    return _end(lab_class, enrolments, acting_user=acting_user, action="class.remove_student")


def _end(lab_class: LabClass, enrolments: Sequence[Enrolment], *, acting_user: User, action: str) -> Batch | None:
    with transaction.atomic():
        pool.lock(lab_class)
        ending = list(Enrolment.objects.filter(lab_class=lab_class, pk__in=[each.pk for each in enrolments]).select_related("student"))
        places = list(PoolMachine.objects.filter(enrolment__in=ending).select_related("machine", "lab_class"))
        batch = None
        if places:
            title = ngettext("Replace %(count)d used machine of %(class)s", "Replace %(count)d used machines of %(class)s", len(places))
            batch = Batch.objects.create(title=title % {"count": len(places), "class": lab_class}, requested_by=acting_user)
            pool.replace(lab_class, places, acting_user=acting_user, batch=batch)
        for enrolment in ending:
            audit.record(action, acting_user=acting_user, target=lab_class, student=enrolment.student.get_username())
        publish(pool.topic(lab_class), *(f"owner:{enrolment.student_id}" for enrolment in ending))
        lab_class.kept_out.add(*(enrolment.student for enrolment in ending if enrolment.from_directory and enrolment.left_group_at is None))
        Enrolment.objects.filter(pk__in=[each.pk for each in ending]).delete()
        pool.fill_waiting_list(lab_class, acting_user=acting_user)
        pool.tell_waiting(lab_class)
    return batch
