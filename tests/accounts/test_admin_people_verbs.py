"""What the pages of the verbs promise before they are clicked, and whom staff leave to superusers."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, AuditEntry, Notice, Role, User
from accounts.services import people, second_factors, tokens
from accounts.services.refusal import PersonRefused
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def sam():
    return make_user("sam", role=Role.STAFF)


@pytest.fixture
def root():
    return make_user("root", role=Role.STAFF, is_superuser=True)


@pytest.fixture
def admin(client, sam):
    client.force_login(sam)
    return client


def text(response):
    return response.content.decode()


def told(response):
    return " ".join(str(message) for message in response.context["messages"])


def button(user, word):
    return reverse("admin:accounts_user_verb", args=[user.pk, word])


# -- opening again -------------------------------------------------------------------------------


def test_the_closed_account_of_staff_is_opened_by_superusers_alone(admin, sam, root):
    eve = make_user("eve", role=Role.STAFF)
    people.deactivate(eve, acting_user=root)
    assert button(eve, "reactivate") not in text(admin.get(reverse("admin:accounts_user_change", args=[eve.pk])))
    asked = text(admin.get(button(eve, "reactivate")))
    assert "Only a superuser can do this" in asked and "Leave it as it is" not in asked
    assert "Only a superuser can do this" in told(admin.post(button(eve, "reactivate"), follow=True))
    with pytest.raises(PersonRefused, match="Only a superuser"):
        people.reactivate(eve, acting_user=sam)
    assert not User.objects.get(pk=eve.pk).is_active and not AuditEntry.objects.filter(action="user.reactivate").exists()
    people.reactivate(eve, acting_user=root)
    assert User.objects.get(pk=eve.pk).is_active


def test_who_closes_the_account_of_staff_reads_that_only_a_superuser_opens_it_again(admin):
    for user, alone in ((make_user("eve", role=Role.STAFF), True), (make_user("ada"), False)):
        assert ("Only a superuser can open it again." in text(admin.get(button(user, "deactivate")))) is alone
        assert ("The account can be opened again." in text(admin.get(button(user, "deactivate")))) is not alone


# -- the second factor ---------------------------------------------------------------------------


def with_factor(username, **fields):
    user = make_user(username, **fields)
    Authenticator.objects.create(user=user, type="totp", data={})
    return user


def with_token(user):
    tokens.make(user, name="laptop", scopes=[], expires_at=timezone.now() + timedelta(days=1))
    return user


def test_the_page_says_that_tokens_go_with_the_second_factor(admin):
    ada = with_token(with_factor("ada"))
    assert "Their API tokens are revoked" in text(admin.get(button(ada, "reset-second-factor")))
    admin.post(button(ada, "reset-second-factor"))
    assert not ApiToken.objects.filter(revoked_at=None).exists()


@pytest.mark.parametrize(("backend", "address", "promised"), [("locmem", "ada@uni.test", True), ("locmem", "", False), ("console", "ada@uni.test", False)])
def test_a_mail_is_promised_where_one_goes_out(admin, settings, backend, address, promised):
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    ada = with_factor("ada", email=address)
    assert ("They get a mail about it." in text(admin.get(button(ada, "reset-second-factor")))) is promised
    admin.post(button(ada, "reset-second-factor"))
    assert Notice.objects.filter(user=ada).exists() is promised


def test_nothing_is_taken_from_who_has_no_second_factor(admin, sam):
    ada = with_token(make_user("ada"))
    browser = Client()
    browser.force_login(ada)
    asked = text(admin.get(button(ada, "reset-second-factor")))
    assert "ada has no second factor." in asked and "Leave it as it is" not in asked
    assert "ada has no second factor." in told(admin.post(button(ada, "reset-second-factor"), follow=True))
    with pytest.raises(second_factors.SecondFactorRefused):
        second_factors.reset(ada, acting_user=sam)
    assert "factor" not in str(Notice.objects.values("subject")) and not AuditEntry.objects.filter(action="second_factor.reset").exists()
    assert ApiToken.objects.get().revoked_at is None and browser.get(reverse("accounts:profile")).status_code == 200
