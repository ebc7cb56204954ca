"""Who may see and run a class. The only door from a URL to a row."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404

from accounts.models import User
from machines.lifecycle import State
from machines.models import Batch, Machine

from .models import Enrolment, Invite, LabClass, PoolMachine


def runs_class(user: User, lab_class: LabClass) -> bool:
    """Its teacher while they teach, and staff."""
    return user.runs_portal or (user.teaches and lab_class.teacher_id == user.pk)


def machines_of_own_classes(user: User) -> Q:
    """For `machines.policies.GRANTS`: a teacher sees and drives the machines of their classes.
    Taken by key, so that whoever asks for machines is not given one twice."""
    if not user.teaches:
        return Q(pk__in=[])
    return Q(pk__in=PoolMachine.objects.filter(lab_class__teacher=user).values("machine"))


def machines_of_classes() -> Q:
    """For `machines.selectors.quotas.NOT_COUNTED`: what a class shares out counts against none of its students."""
    return Q(pk__in=PoolMachine.objects.values("machine"))


def access_class(user: User, key: UUID) -> LabClass:
    """A class one runs or is in; Http404 for others, which do not exist for this person."""
    lab_class = LabClass.objects.select_related("teacher", "template__cluster").filter(key=key).first()
    if lab_class is None or not (runs_class(user, lab_class) or Enrolment.objects.filter(lab_class=lab_class, student=user).exists()):
        raise Http404
    return lab_class


def access_run_class(user: User, key: UUID) -> LabClass:
    """A class one runs; PermissionDenied for its students, Http404 for everybody else."""
    lab_class = access_class(user, key)
    if not runs_class(user, lab_class):
        raise PermissionDenied
    return lab_class


def place_of(lab_class: LabClass, machine: UUID) -> PoolMachine:
    """A machine of the class, one that could not be deleted among them. Else Http404."""
    places = lab_class.pool.exclude(machine__state=State.DESTROYED).select_related("machine__cluster", "lab_class")
    place = places.filter(machine__key=machine).first()
    if place is None:
        raise Http404
    return place


def invite_of(lab_class: LabClass, number: int) -> Invite:
    """An invite of the class. Else Http404."""
    invite = lab_class.invites.select_related("lab_class").filter(pk=number).first()
    if invite is None:
        raise Http404
    return invite


def access_batch(user: User, key: UUID) -> Batch:
    """Bulk work on machines of a class one runs; staff see all. Else Http404."""
    batch = Batch.objects.select_related("requested_by").filter(key=key).first()
    if batch is None or not (user.runs_portal or Machine.objects.filter(machines_of_own_classes(user), operations__batch=batch).exists()):
        raise Http404
    return batch
