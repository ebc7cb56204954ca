"""What the portal keeps of a person's classes: for the file they take with them, and before they go."""

from collections.abc import Iterable, Mapping

from django.utils.translation import gettext as _

from accounts.models import User

from .models import Enrolment, LabClass


def joined(user: User) -> Iterable[Mapping[str, object]]:
    return Enrolment.objects.filter(student=user).values("lab_class__key", "lab_class__name", "joined_at")


def taught(user: User) -> Iterable[Mapping[str, object]]:
    """Without those who learn there."""
    return LabClass.objects.filter(teacher=user).values("key", "name", "template__name", "cores", "memory_mib", "created_at", "archived_at")


def holdings(user: User) -> list[str]:
    """The classes that need another teacher first."""
    names = list(LabClass.objects.filter(teacher=user).order_by("name").values_list("name", flat=True))
    return [_("These classes need another teacher first: %(names)s.") % {"names": ", ".join(names)}] if names else []
