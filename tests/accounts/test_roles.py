"""Roles, and what follows from them."""

import pytest
from django.core import mail
from django.core.management import call_command

from accounts.models import AuditEntry, Role, User
from accounts.services import roles
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("role", "teaches", "runs", "admin"), [("student", False, False, False), ("teacher", True, False, False), ("staff", True, True, True)])
def test_what_follows_from_a_role(role, teaches, runs, admin):
    user = make_user(role=Role.TEACHER if role == "student" else Role.STUDENT)
    roles.set_role(user, role, acting_user=None)
    user.refresh_from_db()
    assert (user.role, user.teaches, user.runs_portal, user.is_staff) == (role, teaches, runs, admin)
    assert user.has_perm("machines.change_cluster") is runs
    assert user.has_module_perms("machines") is runs
    entry = AuditEntry.objects.get(action="user.role")
    assert entry.data["after"] == role and entry.actor_name == "portal"


def test_nobody_takes_the_staff_role_from_themselves():
    staff = make_user(role=Role.STAFF)
    with pytest.raises(roles.RoleRefused, match="yourself"):
        roles.set_role(staff, Role.STUDENT, acting_user=staff)
    roles.set_role(staff, Role.STUDENT, acting_user=make_user(role=Role.STAFF, is_superuser=True))


def test_only_superusers_make_staff_and_take_the_role_back():
    """Else staff lower other staff, give them an address of their own, and raise them again."""
    sam, kim, student = make_user(role=Role.STAFF), make_user(role=Role.STAFF), make_user()
    for user, role in ((kim, Role.TEACHER), (student, Role.STAFF)):
        with pytest.raises(roles.RoleRefused, match="Only a superuser"):
            roles.set_role(user, role, acting_user=sam)
        roles.set_role(user, role, acting_user=make_user(role=Role.STAFF, is_superuser=True))
        assert user.role == role
    roles.set_role(kim, Role.STUDENT, acting_user=sam)  # other roles staff give and take


def test_a_superuser_counts_as_staff_and_stays_so(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", "--noinput", username="root", email="root@uni.test", verbosity=0)
    root = User.objects.get(username="root")
    assert (root.role, root.is_staff, root.runs_portal, root.teaches) == (Role.STAFF, True, True, True)
    with pytest.raises(roles.RoleRefused, match="superuser"):
        roles.set_role(root, Role.STUDENT, acting_user=make_user(role=Role.STAFF))


def test_an_account_that_is_closed_may_nothing():
    staff = make_user(role=Role.STAFF, is_active=False)
    assert not staff.runs_portal and not staff.teaches and not staff.has_perm("machines.change_cluster")


# -- in the admin ------------------------------------------------------------------------------


def change(client, user, **values):
    data = {"username": user.username, "email": user.email, "keyboard": "us", "role": user.role, "is_active": "on", **values}
    return client.post(f"/admin/accounts/user/{user.pk}/change/", data)


def test_the_admin_gives_roles_through_the_service(client):
    root, student = make_user(role=Role.STAFF, is_superuser=True), make_user()
    client.force_login(root)
    assert change(client, student, role="staff").status_code == 302
    student.refresh_from_db()
    assert student.is_staff and AuditEntry.objects.get(action="user.role").actor == root


def test_staff_make_no_staff_in_the_admin(client):
    client.force_login(make_user(role=Role.STAFF))
    student, kim = make_user(), make_user("kim", role=Role.STAFF)
    assert "Only a superuser" in change(client, student, role="staff").content.decode()
    assert "Only a superuser" in change(client, kim, role="student").content.decode()
    new = {"username": "eve", "email": "eve@uni.test", "role": "staff"}
    assert "Only a superuser" in client.post("/admin/accounts/user/add/", new).content.decode()
    client.post("/admin/accounts/user/", {"action": "give_role", "_selected_action": [student.pk, kim.pk], "do": "1", "role": "staff"})
    assert list(User.objects.exclude(role=Role.STAFF)) == [student] and not User.objects.filter(username="eve").exists()


def test_the_admin_tells_why_a_role_is_refused(client):
    staff = make_user(role=Role.STAFF)
    client.force_login(staff)
    assert "from yourself" in change(client, staff, role="student").content.decode()
    staff.refresh_from_db()
    assert staff.is_staff


def test_staff_make_no_superusers_and_touch_none(client):
    staff, student, root = make_user(role=Role.STAFF), make_user(), User.objects.create_superuser("root", "root@uni.test", "x")
    client.force_login(staff)
    change(client, student, is_superuser="on")
    student.refresh_from_db()
    assert not student.is_superuser
    assert change(client, root, email="mine@uni.test").status_code == 403
    assert client.get(f"/admin/accounts/user/{root.pk}/password/").status_code == 403
    assert client.post(f"/admin/accounts/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403


def test_staff_lend_no_superuser_an_address_to_get_their_password_by(client):
    root = User.objects.create_superuser("root", "root@uni.test", "x")
    client.force_login(make_user(role=Role.STAFF))
    client.post("/admin/account/emailaddress/add/", {"user": root.pk, "email": "mine@uni.test", "verified": "on", "primary": "on"})
    client.logout()
    client.post("/accounts/password/reset/", {"email": "mine@uni.test"})
    assert not any("/password/reset/key/" in sent.body for sent in mail.outbox)
