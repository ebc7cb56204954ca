"""The portal's own accounts, and what the answer to a wrong password gives away."""

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.hashers import PBKDF2InTurn
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def hashed(settings, monkeypatch):
    """Every password that is hashed, for which people wait."""
    settings.PASSWORD_HASHERS = ["accounts.hashers.PBKDF2InTurn"]
    monkeypatch.setattr(PBKDF2InTurn, "iterations", 1)
    people = [make_user("ada"), make_user("without"), make_user("closed", is_active=False)]
    people[1].set_unusable_password()
    people[1].save()
    seen, encode = [], PBKDF2InTurn.encode
    monkeypatch.setattr(PBKDF2InTurn, "encode", lambda self, password, *rest, **more: seen.append(password) or encode(self, password, *rest, **more))
    return seen


LOGINS = ("ada", "without", "closed", "nobody", "ada@uni.test", "without@uni.test", "closed@uni.test", "nobody@uni.test", "ADA")


def sign_in(login, password="wrong"):
    cache.clear()  # of counted failures
    client = Client()
    return client, client.post(reverse("account_login"), {"login": login, "password": password})


def test_a_wrong_password_takes_the_same_time_whoever_it_was_for(hashed):
    taken, said = {}, set()
    for login in LOGINS:
        hashed.clear()
        _, answer = sign_in(login)
        taken[login] = len(hashed)
        said.add(answer.content.decode().count("not correct"))
    assert taken == dict.fromkeys(LOGINS, 1)
    assert said == {1}


def test_what_no_database_holds_is_nobodys_name(db):
    assert sign_in("a\x00b")[1].status_code == 200


@pytest.mark.parametrize("login", ["ada", "ADA", "ada@uni.test", "Ada@UNI.test"])
def test_name_and_address_lead_to_the_same_person(hashed, login):
    client, answer = sign_in(login, PASSWORD)
    assert answer.status_code == 302 and client.get("/").wsgi_request.user.username == "ada"
    assert len(hashed) == 1


def test_whose_account_is_closed_is_told_after_the_right_password_alone(hashed):
    assert sign_in("closed", PASSWORD)[1].url == reverse("account_inactive")
    assert "not correct" in sign_in("closed")[1].content.decode()


def test_no_password_opens_an_account_that_has_none(hashed):
    for password in ("", "!", PASSWORD):
        assert sign_in("without", password)[1].status_code == 200
