"""Classes, for staff who take in a list of people."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from django.db.models import Q

from accounts.models import User
from classes.models import LabClass

from . import enrolment


class ForImports:
    """For `accounts.services.people_import.CLASSES`."""

    def named(self, names: Collection[str]) -> Mapping[str, LabClass]:
        open_ones = list(LabClass.objects.filter(Q(name__in=names) | Q(slug__in=names), archived_at=None))
        by_slug = {lab_class.slug: lab_class for lab_class in open_ones}
        of_name = Counter(lab_class.name for lab_class in open_ones)
        by_name = {lab_class.name: lab_class for lab_class in open_ones if of_name[lab_class.name] == 1}
        return {name: lab_class for name, lab_class in {**by_name, **by_slug}.items() if name in names}

    def students(self, lab_class: LabClass, users: Collection[User]) -> Collection[int]:
        present = {user.pk for user in users}
        return present & set(lab_class.enrolments.values_list("student", flat=True))

    def enrol(self, lab_class: LabClass, students: Sequence[User], *, acting_user: User) -> None:
        enrolment.enrol(lab_class, students, acting_user=acting_user)
