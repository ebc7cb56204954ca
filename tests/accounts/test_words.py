"""What the portal says about accounts: in its own words, not in those of the libraries it stands on."""

import re
from datetime import UTC, datetime

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import formats

from accounts.models import Role, RolePolicy
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

THEIRS = re.compile(r"You(?:'| a)re receiving this|email address|[Uu]sername|sign[- ]?up for an\n|Already Exists|Designates|successfully|third-party|verif")
NEW = {"username": "grace", "email": "grace@uni.test", "password1": "an admirable compiler"}


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def sign_up(client):
    return client.post(reverse("account_signup"), NEW)


def in_our_words(*texts):
    for text in texts:
        assert text.strip() and not THEIRS.search(text), text


def test_the_mail_that_confirms_an_address(client):
    sign_up(client)
    (sent,) = mail.outbox
    assert sent.subject == "[labportal] Confirm your e-mail address"
    assert "The account grace gave this address" in sent.body and "/accounts/confirm-email/" in sent.body
    in_our_words(sent.subject, sent.body)


def test_the_mail_to_somebody_who_has_an_account_says_how_to_sign_in(client):
    make_user("ada", email=NEW["email"])
    sign_up(client)
    (sent,) = mail.outbox
    assert f"http://testserver{reverse('account_login')}" in sent.body
    assert f"http://testserver{reverse('account_reset_password')}" in sent.body
    in_our_words(sent.subject, sent.body)


@pytest.mark.parametrize("email", ["ada@uni.test", "nobody@uni.test"])
def test_the_mail_for_a_forgotten_password(client, email):
    make_user("ada")
    client.post(reverse("account_reset_password"), {"email": email})
    (sent,) = mail.outbox
    in_our_words(sent.subject, sent.body)
    assert sent.body.endswith("labportal · http://testserver")
    assert ("account ada" in sent.body) == (email == "ada@uni.test")


def test_messages_about_addresses(client):
    user = make_user("ada")
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    EmailAddress.objects.create(user=user, email="ada@home.test", verified=True)
    for button, email, said in [
        ("action_primary", "ada@home.test", "Mail to you goes to this address from now on."),
        ("action_remove", "ada@uni.test", "ada@uni.test is removed."),
        ("action_add", "ada@home.test", "This is an address of your account already."),
    ]:
        page = client.post(reverse("account_email"), {button: "", "email": email}, follow=True).content.decode()
        assert said in page
        in_our_words(page)


def test_moments_are_written_as_in_britain(client):
    user = make_user("ada")
    user.date_joined = datetime(2026, 11, 21, 15, 52, tzinfo=UTC)
    user.save()
    client.force_login(make_user("root", role=Role.STAFF, is_superuser=True))
    assert "21 November 2026, 15:52" in client.get(reverse("admin:accounts_user_change", args=[user.pk])).content.decode()
    browser = Client()
    browser.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    browser.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": NEW["password1"], "password2": NEW["password1"]})
    (sent,) = mail.outbox
    assert re.search(r"at \d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d from", sent.body)
    assert formats.time_format(user.date_joined) == "15:52"


def test_one_wording_for_a_forgotten_password(client):
    page = client.get(reverse("account_login")).content.decode()
    assert f'<a href="{reverse("account_reset_password")}">Forgotten your password?</a>' in page and "Forgot " not in page


def test_refusals(client):
    page = client.post(reverse("account_login"), {"login": "nobody", "password": "wrong"}).content.decode()
    assert "The user name or e-mail address, or the password, is not correct." in page
    make_user("grace")
    assert "Somebody has this user name already." in sign_up(client).content.decode()


def test_people_in_the_admin(client):
    client.force_login(make_user("root", role=Role.STAFF, is_superuser=True))
    ada = make_user("ada")
    pages = [reverse("admin:accounts_user_changelist"), reverse("admin:accounts_user_add"), reverse("admin:accounts_user_change", args=[ada.pk])]
    for page in pages:
        text = client.get(page).content.decode()
        assert "-mail address" in text
        assert not re.search(r"Email address|Designates|Required\. 150", text)


def test_rules_are_counted_and_named_as_one_says_it(client):
    client.force_login(make_user("root", role=Role.STAFF, is_superuser=True))
    added = client.post(reverse("admin:accounts_rolepolicy_add"), {"role": "teacher"}, follow=True).content.decode()
    assert RolePolicy.objects.count() == 1
    assert "The role with rules “" in added and "1 role with rules" in added
