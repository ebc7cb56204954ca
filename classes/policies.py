"""Who may see and run a class. The only door from a URL to a row."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404

from accounts.models import User
from machines.models import Batch

from . import selectors
from .models import LabClass, PoolMachine


def runs_class(user: User, lab_class: LabClass) -> bool:
    """Its teacher while they teach, and staff."""
    return user.runs_portal or (user.teaches and lab_class.teacher_id == user.pk)


def machines_of_own_classes(user: User) -> Q:
    """For `machines.policies.GRANTS`: a teacher sees and drives the machines of their classes.
    Taken by key, so that whoever asks for machines is not given one twice."""
    if not user.teaches:
        return Q(pk__in=[])
    return Q(pk__in=PoolMachine.objects.filter(lab_class__teacher=user).values("machine"))


def access_class(user: User, key: UUID) -> LabClass:
    """A class one runs or is in; Http404 for others, which do not exist for this person."""
    lab_class = LabClass.objects.select_related("teacher", "template").filter(key=key).first()
    if lab_class is None or not (runs_class(user, lab_class) or selectors.is_enrolled(user, lab_class)):
        raise Http404
    return lab_class


def access_run_class(user: User, key: UUID) -> LabClass:
    """A class one runs; PermissionDenied for its students, Http404 for everybody else."""
    lab_class = access_class(user, key)
    if not runs_class(user, lab_class):
        raise PermissionDenied
    return lab_class


def access_batch(user: User, key: UUID) -> Batch:
    """Bulk work one asked for, or on machines of a class one runs; staff see all. Else Http404."""
    batch = Batch.objects.select_related("requested_by").filter(key=key).first()
    if batch is None or not (user.runs_portal or (batch.requested_by_id == user.pk and user.is_active) or selectors.runs_batch(user, batch)):
        raise Http404
    return batch
