"""A mail server that is away: whoever waits for a mail is told so, nothing is lost, and nobody learns who has an account."""

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import User
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

NEW = {"username": "new", "email": "new@uni.test", "password1": PASSWORD}


@pytest.fixture
def away(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
    return monkeypatch


@pytest.fixture(autouse=True)
def nothing_is_counted_yet():
    cache.clear()


def told(response):
    assert response.status_code == 503
    assert "The mail could not be sent" in response.content.decode()
    return True


def test_known_and_unknown_addresses_get_the_same_answer(away):
    make_user("ada")
    answers = [Client().post(reverse("account_reset_password"), {"email": f"{name}@uni.test"}) for name in ("ada", "nobody")]
    assert all(map(told, answers)) and answers[0].content == answers[1].content
    make_user("new")
    answers = [
        Client().post(reverse("account_signup"), NEW | {"username": name, "email": email}) for name, email in (("a", "new@uni.test"), ("b", "b@uni.test"))
    ]
    assert all(map(told, answers)) and answers[0].content == answers[1].content


def test_who_signed_up_meanwhile_gets_the_mail_later(client, away):
    assert told(client.post(reverse("account_signup"), NEW))
    assert not EmailAddress.objects.get(user=User.objects.get(username="new")).verified
    away.undo()
    cache.clear()  # some minutes later
    answer = Client().post(reverse("account_login"), {"login": "new", "password": PASSWORD})
    assert answer.url == reverse("account_email_verification_sent")
    assert [sent.to for sent in mail.outbox] == [["new@uni.test"]]


def test_a_change_stays_when_no_mail_tells_of_it(client, away):
    ada = make_user("ada")
    client.force_login(ada)
    another = "another horse battery"
    assert client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": another, "password2": another}).status_code == 302
    assert User.objects.get(pk=ada.pk).check_password(another)
