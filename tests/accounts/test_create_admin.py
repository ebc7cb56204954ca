"""The first person of a new portal."""

import re
import sys
from io import StringIO

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts.management.commands import create_admin
from accounts.models import AuditEntry, Role, User
from tests.factories import make_user

pytestmark = pytest.mark.django_db

PASSWORD = "an admirable compiler"


def run(*arguments):
    out = StringIO()
    call_command("create_admin", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def typed(monkeypatch):
    """What is typed at the terminal, line by line."""
    lines = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(create_admin, "getpass", lambda prompt: lines.pop(0))
    return lines


def test_the_password_is_typed_twice_and_must_be_a_good_one(client, typed):
    typed += ["12345", PASSWORD, "something else", PASSWORD, PASSWORD]
    said = run("root", "root@uni.test")
    assert "too short" in said and "two different" in said
    root = User.objects.get()
    assert (root.role, root.is_superuser, root.is_staff) == (Role.STAFF, True, True)
    assert client.post(reverse("account_login"), {"login": "root@uni.test", "password": PASSWORD}).url == reverse("machines:machines")
    assert AuditEntry.objects.get(action="user.made").data["superuser"] is True


def test_where_nobody_can_type_a_link_opens_the_account_once(client):
    said = run("root", "root@uni.test", "--link")
    assert not User.objects.get().has_usable_password()
    link = re.search(r"https?://[^/]+(/accounts/password/\S+)", said)[1]
    form = client.get(link, follow=True).redirect_chain[-1][0]
    client.post(form, {"password1": PASSWORD, "password2": PASSWORD})
    client.logout()
    assert client.post(reverse("account_login"), {"login": "root", "password": PASSWORD}).url == reverse("machines:machines")
    client.logout()
    assert "does not work any more" in client.get(link).content.decode()


def test_without_a_terminal_and_a_link_nothing_is_made(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(CommandError, match="--link"):
        run("root", "root@uni.test")
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("username", "email", "why"),
    [
        ("Ada", "root@uni.test", "somebody has it"),
        ("root", "ADA@uni.test", "Somebody has the address"),
        ("root", "second@uni.test", "Somebody has the address"),
        ("r@t", "r@uni.test", "@"),
        ("root", "root", "valid email"),
    ],
)
def test_what_cannot_be_is_told_before_a_password_is_asked_for(username, email, why):
    EmailAddress.objects.create(user=make_user("ada"), email="second@uni.test", verified=True)
    with pytest.raises(CommandError, match=why):
        run(username, email)
    assert User.objects.count() == 1
