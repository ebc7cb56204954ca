"""Guessing ends soon, and keeps nobody else out."""

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import DIRECTORY, AuditEntry, Identity, User
from accounts.throttling import _COOKIE
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

HALL, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def sign_in(login, password=PASSWORD, *, address=HALL, client=None):
    client = client or Client()
    answer = client.post(reverse("account_login"), {"login": login, "password": password}, REMOTE_ADDR=address)
    return "in" if answer.status_code == 302 else answer.content.decode()


def sign_out(client):
    """The browser keeps its cookies."""
    client.post(reverse("account_logout"))


def guess(login, times, **where):
    return [sign_in(login, "wrong", **where) for _ in range(times)][-1]


def test_who_types_anothers_name_keeps_them_out_of_neither_their_browser_nor_other_networks():
    make_user("ada")
    own = Client()
    assert sign_in("ada", client=own) == "in"
    sign_out(own)
    assert "Too many wrong passwords for this account" in guess("ada", 6)
    assert "Too many" in sign_in("ada")  # from this network, in a browser that does not know her
    assert sign_in("ada", client=own) == "in"
    assert sign_in("ada", address=ELSEWHERE) == "in"


def test_a_browser_that_is_known_is_no_way_to_guess_on():
    make_user("ada"), make_user("bob")
    thief = Client()
    assert sign_in("bob", client=thief) == "in"
    sign_out(thief)
    assert "Too many" in guess("ada", 6, client=thief)  # known for bob, not for ada
    assert "Too many" in guess("bob", 6, client=thief)
    thief.cookies[_COOKIE] = thief.cookies[_COOKIE].value[:-2] + "xx"
    assert "not correct" in guess("bob", 1, client=thief)  # a forged one is none


def test_from_many_networks_an_account_is_not_guessed_for_ever(settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_anywhere": "7/1h/key"}
    make_user("ada")
    for number in range(7):
        assert "not correct" in guess("ada", 1, address=f"192.0.2.{number}")
    assert "Too many" in sign_in("ada", address=ELSEWHERE)


def test_a_hundred_wrong_names_keep_no_lecture_hall_out():
    make_user("erik")
    for number in range(130):
        guess(f"nobody{number}", 1)
    assert sign_in("erik") == "in"


def test_a_network_that_is_wrong_without_end_is_told_so_and_known_browsers_go_on(settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_network": "10/5m/ip"}
    make_user("ada"), make_user("erik")
    own = Client()
    assert sign_in("ada", client=own) == "in"
    sign_out(own)
    for number in range(10):
        guess(f"nobody{number}", 1)
    assert "too many wrong passwords from your network" in sign_in("erik")
    assert sign_in("erik", address=ELSEWHERE) == "in"
    assert sign_in("ada", client=own) == "in"


def turned_away():
    entries = AuditEntry.objects.filter(action="user.sign_in_failed", data__reason="too_often")
    return list(entries.order_by("pk").values_list("object_name", "outcome", "address"))


def test_who_is_turned_away_is_recorded_once_in_a_while():
    make_user("ada"), make_user("erik")
    guess("ada", 9), guess("ada@uni.test", 3)
    assert turned_away() == [("ada", "refused", HALL)]
    guess("erik", 9), guess("nobody", 9), guess("no one", 9)
    assert turned_away()[1:] == [("erik", "refused", HALL), ("", "refused", HALL)]
    cache.delete(f"turned_away:person:{User.objects.get(username='ada').pk}")  # as five minutes later
    guess("ada", 3)
    assert turned_away()[3:] == [("ada", "refused", HALL)]


def test_a_network_that_is_turned_away_is_recorded_once_whoever_is_meant(settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_network": "3/5m/ip"}
    for name in [make_user(f"p{number}").username for number in range(9)]:
        guess(name, 1)
    assert turned_away() == [("p3", "refused", HALL)]


def test_all_names_of_a_person_are_one_account():
    ada = make_user("ada")
    Identity.objects.create(user=ada, source=DIRECTORY, uid="1", name="alovelace")
    for login in ("ada", "ADA", "ada@uni.test", "alovelace", "ada"):
        assert "not correct" in guess(login, 1)
    assert "Too many" in guess("Ada@uni.test", 1)


def test_all_browsers_that_know_a_person_are_counted_together(settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_known_anywhere": "7/1h/key"}
    make_user("ada")
    browsers = [Client() for _ in range(8)]
    for client in browsers:
        assert sign_in("ada", client=client) == "in"
        sign_out(client)
    assert all("not correct" in guess("ada", 1, client=client) for client in browsers[:7])
    assert "Too many" in sign_in("ada", client=browsers[7])
    assert sign_in("ada") == "in"  # in one that does not know her


@pytest.mark.parametrize("browser_is_known", [True, False])
def test_a_new_password_forgives_the_wrong_ones(client, browser_is_known):
    make_user("ada")
    if browser_is_known:
        assert sign_in("ada", client=client) == "in"
        sign_out(client)
    assert "Too many" in guess("ada", 6, client=client)
    client.post(reverse("account_reset_password"), {"email": "ada@uni.test"})
    link = mail.outbox[-1].body.split("http://testserver")[1].split()[0]
    form = client.get(link, follow=True).redirect_chain[-1][0]
    client.post(form, {"password1": "an admirable compiler", "password2": "an admirable compiler"}, REMOTE_ADDR=HALL)
    assert sign_in("ada", "an admirable compiler", client=client) == "in"


def test_the_cookie_says_who_to_nobody_else():
    make_user("ada")
    own = Client()
    sign_in("ada", client=own)
    cookie = own.cookies[_COOKIE]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["path"] == "/accounts/"
    assert "ada" not in cookie.value
