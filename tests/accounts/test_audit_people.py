"""Coming and going, and what people do with their account, is on the record; what they typed is not."""

import re

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import DIRECTORY, AuditEntry, Identity
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

TYPED = "S3cret-Typed-By-Mistake"


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


@pytest.fixture
def ada():
    return make_user("ada", email="ada@uni.test")


def sign_in(client, login="ada", password=PASSWORD):
    return client.post(reverse("account_login"), {"login": login, "password": password})


def last():
    return AuditEntry.objects.first()


def test_signing_in_and_out(client, ada):
    sign_in(client)
    entry = last()
    assert (entry.action, entry.actor, entry.address) == ("user.signed_in", ada, "127.0.0.1")
    assert entry.data == {"how": ["password"], "backend": "LocalBackend"}
    client.post(reverse("account_logout"))
    assert (last().action, last().actor) == ("user.signed_out", ada)


@pytest.mark.parametrize("login", ["ada", "ADA", "ada@uni.test"])
def test_a_wrong_password_is_recorded_of_the_account(client, ada, login):
    sign_in(client, login, TYPED)
    entry = last()
    assert (entry.action, entry.outcome, entry.actor, entry.actor_name) == ("user.sign_in_failed", "refused", None, "")
    assert (entry.object_name, entry.data) == ("ada", {"reason": "wrong_password"})
    assert TYPED not in str(AuditEntry.objects.values())


@pytest.mark.parametrize("login", ["ada.l", "ADA.L", " ada.l"])
def test_a_wrong_password_for_an_account_of_another_system_is_recorded_of_its_person(client, ada, login):
    """What they type there is not what they are called here."""
    Identity.objects.create(user=ada, source=DIRECTORY, uid="1", name="ada.l")
    sign_in(client, login, TYPED)
    assert (last().object_name, last().data) == ("ada", {"reason": "wrong_password"})


def test_what_leads_to_no_account_is_not_kept(client, ada):
    """It may be a password."""
    sign_in(client, TYPED, "ada")
    entry = last()
    assert (entry.object_name, entry.data) == ("", {"reason": "unknown_name"})
    assert TYPED not in str(AuditEntry.objects.values())


@pytest.mark.parametrize("login", ["a\0da", "a" * 400, "\x1b[2J", "\u202eada"])
def test_hostile_names_are_no_trouble(client, ada, login):
    assert sign_in(client, login, "x").status_code == 200
    assert all(login not in str(row) for row in AuditEntry.objects.values())


def test_a_closed_account_is_told_from_a_wrong_password(client, ada):
    ada.is_active = False
    ada.save()
    sign_in(client, "ada", "wrong")
    assert last().data == {"reason": "deactivated"}


def test_asking_for_the_password_again_is_told_apart(client, ada):
    client.force_login(ada)
    client.post(reverse("account_reauthenticate"), {"password": TYPED})
    assert (last().action, last().data) == ("user.sign_in_failed", {"reason": "wrong_password", "again": True})


def test_passwords_that_change(client, ada):
    sign_in(client)
    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": TYPED, "password2": TYPED})
    assert (last().action, last().actor) == ("user.password_changed", ada)
    assert TYPED not in str(AuditEntry.objects.values())


def test_a_password_that_is_asked_for_by_mail_and_set(client, ada):
    client.post(reverse("account_reset_password"), {"email": "ada@uni.test"})
    assert (last().action, last().actor, last().object_name) == ("user.password_reset_asked", None, "ada")
    link = re.search(r"https?://[^/\s]+(/accounts/password/reset/key/\S+)", mail.outbox[0].body)[1]
    assert link.split("/")[-2] not in str(AuditEntry.objects.values())
    browser = Client()
    form = browser.get(link, follow=True)
    browser.post(form.request["PATH_INFO"], {"password1": TYPED, "password2": TYPED})
    assert "user.password_reset" in AuditEntry.objects.values_list("action", flat=True)
    assert TYPED not in str(AuditEntry.objects.values())


def test_a_reset_for_an_address_nobody_has_leaves_no_entry(client, ada):
    client.post(reverse("account_reset_password"), {"email": "bob@uni.test"})
    assert not AuditEntry.objects.exists()


def test_addresses_that_come_and_go(client, ada):
    sign_in(client)
    client.post(reverse("account_email"), {"action_add": "", "email": "ada@home.test"})
    assert (last().action, last().data) == ("user.address_added", {"email": "ada@home.test"})
    link = re.search(r"https?://[^/\s]+(/accounts/confirm-email/\S+)", mail.outbox[-1].body)[1]
    client.post(link)
    assert ("user.address_confirmed", "ada") in AuditEntry.objects.values_list("action", "actor_name")
    assert link.split("/")[-2] not in str(AuditEntry.objects.values())
    client.post(reverse("account_email"), {"action_primary": "", "email": "ada@home.test"})
    assert last().action == "user.address_changed" and last().data["after"] == "ada@home.test"
    other = ada.emailaddress_set.exclude(email="ada@home.test").first()
    if other is not None:
        client.post(reverse("account_email"), {"action_remove": "", "email": other.email})
        assert (last().action, last().data) == ("user.address_removed", {"email": other.email})
