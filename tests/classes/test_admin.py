"""Classes in the admin: read, and handed over; nothing else is written there."""

import pytest
from django.urls import reverse

from accounts.models import AuditEntry, Role
from classes.models import Enrolment, LabClass, PoolMachine
from tests.classes.rows import enrol, make_class, make_invite, make_place
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    client.force_login(make_user(role=Role.STAFF, is_superuser=True))
    return client


def test_lists_and_rows_can_be_read(staff):
    lab_class = make_class()
    make_place(lab_class)
    invite = make_invite(lab_class)
    enrolment = enrol(lab_class)
    for model, row in ((LabClass, lab_class), (PoolMachine, lab_class.pool.get()), (Enrolment, enrolment)):
        name = f"admin:classes_{model._meta.model_name}"
        assert staff.get(reverse(f"{name}_changelist"), {"q": "web"}).status_code == 200
        page = staff.get(reverse(f"{name}_change", args=[row.pk]))
        assert page.status_code == 200 and invite.token not in page.content.decode()
        assert staff.get(reverse(f"{name}_add")).status_code == 403
        assert staff.get(reverse(f"{name}_delete", args=[row.pk])).status_code == 403


def test_a_class_is_handed_to_another_teacher_and_nothing_else_changes(staff):
    lab_class, teacher = make_class(), make_user(role=Role.TEACHER)
    url = reverse("admin:classes_labclass_change", args=[lab_class.pk])
    rows = {f"invites-{name}_FORMS": 0 for name in ("TOTAL", "INITIAL")}
    staff.post(url, {"teacher": teacher.pk, "name": "Taken over", "cores": 64, **rows})
    after = LabClass.objects.get()
    assert (after.teacher, after.name, after.cores) == (teacher, lab_class.name, 1)
    assert AuditEntry.objects.get(action="class.hand_over").data["after"] == teacher.username


def test_a_class_cannot_be_handed_to_a_student(staff):
    lab_class, student = make_class(), make_user()
    url = reverse("admin:classes_labclass_change", args=[lab_class.pk])
    assert staff.post(url, {"teacher": student.pk, "invites-TOTAL_FORMS": 0, "invites-INITIAL_FORMS": 0}).status_code == 200
    assert LabClass.objects.get().teacher == lab_class.teacher
