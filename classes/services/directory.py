"""Who is in a class because a group of the university directory, or of a single sign-on, says so.

No machine is destroyed by what a group says. Whoever is no longer in it keeps theirs, marked for the teacher to
decide; who only waited for one is taken off the list, as they lose nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from accounts.services import audit
from accounts.services.directory_check import Line
from accounts.services.groups import folded, members, shown
from classes.models import Enrolment, LabClass
from machines.services.feed import publish

from . import pool

_AT_ONCE = 100  # people in one transaction: the class is locked for it


def heard(*, user: User, groups: Collection[str], **_: Any) -> None:
    """The groups of a person were read (`accounts.signals.groups_read`)."""
    held = {folded(group) for group in groups}
    mapped = LabClass.objects.filter(archived_at=None).exclude(directory_group="")
    theirs = {lab_class.pk: lab_class for lab_class in mapped if folded(lab_class.directory_group) in held}
    for lab_class in theirs.values():
        enrolment = Enrolment.objects.filter(lab_class=lab_class, student=user).first()
        if enrolment is None or enrolment.left_group_at is not None:
            _take_in(lab_class, [user.pk])
    left = user.enrolments.filter(from_directory=True, left_group_at=None, lab_class__archived_at=None).exclude(lab_class__in=theirs)
    for enrolment in left.select_related("lab_class"):
        _mark_left(enrolment.lab_class, [user.pk])


def said_of(held: frozenset[str], user: User | None) -> Iterator[Line]:
    """Which classes somebody in these groups is in. For `accounts.services.directory_check.CONSEQUENCES`."""
    groups = {folded(group) for group in held}
    mapped = LabClass.objects.filter(archived_at=None).exclude(directory_group="").select_related("teacher").order_by("name", "pk")
    for lab_class in mapped:
        if folded(lab_class.directory_group) not in groups:
            continue
        name = f"Class {lab_class.name}"
        if user is not None and lab_class.teacher_id == user.pk:
            yield Line(name, "teaches it, and is no student of it")
        elif user is not None and lab_class.kept_out.contains(user):
            yield Line(name, "taken out of it, or gone by themselves: an invite brings them back, the group does not")
        else:
            yield Line(name, f"in it, by {shown(lab_class.directory_group)}")


def follow_group(lab_class: LabClass) -> None:
    """The class has another group, or none: bring it up to date with those the portal knows. Outside a transaction."""
    enrolled = lab_class.enrolments.filter(from_directory=True)
    if not lab_class.directory_group:
        with transaction.atomic():
            pool.lock(lab_class)
            enrolled.update(from_directory=False, left_group_at=None)  # they are in the class as if they had come by an invite
            lab_class.kept_out.clear()
            publish(pool.topic(lab_class))
        return
    inside = members(lab_class.directory_group)
    for some in _few_at_once(inside):
        _take_in(lab_class, some)
    here = set(enrolled.filter(left_group_at=None).values_list("student", flat=True))
    for some in _few_at_once(sorted(here.difference(inside))):
        _mark_left(lab_class, some)


def _few_at_once(people: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(people), _AT_ONCE):
        yield people[start : start + _AT_ONCE]


def _take_in(lab_class: LabClass, people: Collection[int]) -> None:
    """Enrol them, those apart who run the class or were taken out of it. Machines are given from the pool alone."""
    group = lab_class.directory_group
    with transaction.atomic():
        pool.lock(lab_class)
        if lab_class.archived_at is not None or lab_class.directory_group != group:
            return
        here = lab_class.enrolments.filter(student__in=people)
        back = list(here.exclude(left_group_at=None).select_related("student"))
        new = User.objects.filter(pk__in=people, is_active=True).exclude(pk=lab_class.teacher_id)
        new = new.exclude(pk__in=here.values("student")).exclude(pk__in=lab_class.kept_out.values("pk"))
        come = Enrolment.objects.bulk_create([Enrolment(lab_class=lab_class, student=student, from_directory=True) for student in new.order_by("pk")])
        if not come and not back:
            return
        here.update(left_group_at=None)
        for enrolment in come:
            audit.record("class.join", acting_user=None, target=lab_class, student=enrolment.student.get_username(), by="directory", group=group)
        for enrolment in back:
            audit.record("class.back_in_group", acting_user=None, target=lab_class, student=enrolment.student.get_username(), group=group)
        pool.fill_waiting_list(lab_class, acting_user=None)
        publish(pool.topic(lab_class), *(f"owner:{enrolment.student_id}" for enrolment in come))


def _mark_left(lab_class: LabClass, people: Collection[int]) -> None:
    with transaction.atomic():
        pool.lock(lab_class)
        left = lab_class.enrolments.filter(student__in=people, from_directory=True, left_group_at=None).select_related("student")
        waited = list(left.filter(place=None))
        marked = list(left.exclude(place=None))
        for enrolment in waited:
            audit.record("class.leave", acting_user=None, target=lab_class, student=enrolment.student.get_username(), by="directory")
        for enrolment in marked:
            audit.record("class.left_group", acting_user=None, target=lab_class, student=enrolment.student.get_username(), group=lab_class.directory_group)
        Enrolment.objects.filter(pk__in=[enrolment.pk for enrolment in marked]).update(left_group_at=timezone.now())
        Enrolment.objects.filter(pk__in=[enrolment.pk for enrolment in waited]).delete()
        if waited:
            pool.tell_waiting(lab_class)
        publish(pool.topic(lab_class), *(f"owner:{enrolment.student_id}" for enrolment in [*waited, *marked]))
