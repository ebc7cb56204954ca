"""Where people are signed in, and how that ends."""

from datetime import timedelta
from importlib import import_module

import pytest
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.presence import Visit, over
from accounts.services import sessions, signing_in
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

PAGE = "accounts:sessions"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 Edg/126.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"


@pytest.fixture(autouse=True)
def fresh_cache():
    cache.clear()


@pytest.fixture
def ada():
    return make_user("ada")


def browser(user, agent=FIREFOX, address="192.0.2.1"):
    """Signed in as people do it, by the form."""
    client = Client(HTTP_USER_AGENT=agent, REMOTE_ADDR=address)
    assert client.post(reverse("account_login"), {"login": user.username, "password": PASSWORD}).status_code == 302
    return client


def test_who_fears_a_break_in_reads_of_every_way_in(ada, mailoutbox):
    client = browser(ada)
    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": "quite another one", "password2": "quite another one"})
    for text in (mailoutbox[-1].body, client.get(reverse(PAGE)).text):
        assert "change your password" in text and "revoke API tokens and disconnect accounts that you do not know" in text


def is_in(client):
    return client.get(reverse(PAGE)).status_code == 200


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (EDGE, "Edge on Windows"),
        (IPHONE, "Safari on iPhone"),
        ("curl/8.5.0", "curl"),
        ("", "An unknown browser"),
        ("<script>alert(1)</script>\x00ü", "<script>alert(1)</script>"),
    ],
)
def test_a_browser_is_called_by_its_name_and_system(agent, words):
    assert sessions.device(agent) == words


def test_every_browser_is_listed_and_this_one_marked(ada):
    browser(ada, IPHONE, "192.0.2.7")
    here = browser(ada)
    text = here.get(reverse(PAGE)).content.decode()
    assert "Safari on iPhone" in text and "192.0.2.7" in text and "Firefox on Linux" in text
    assert text.count("This browser") == 1
    assert [found.is_this for found in sessions.of_person(ada, this=here.session.session_key)] == [True, False]


def test_what_a_browser_says_of_itself_is_shown_as_text(ada):
    here = browser(ada, "<img src=x>")
    assert "<img src=x" not in here.get(reverse(PAGE)).content.decode()


def test_one_browser_is_signed_out_and_its_sockets_end(ada):
    here, there = browser(ada), browser(ada, IPHONE)
    socket = Visit(there.session.session_key, ada.pk, ada.get_session_auth_hash())
    assert over([socket]) == set()
    pk = UserSession.objects.get(session_key=there.session.session_key).pk
    assert here.post(reverse("accounts:end_session", args=[pk])).status_code == 302
    assert is_in(here) and not is_in(there) and over([socket]) == {socket}
    entry = AuditEntry.objects.get(action="session.end")
    assert entry.actor == ada and entry.data == {"device": "Safari on iPhone", "from_address": "192.0.2.1"}


def test_all_others_are_signed_out_and_this_one_stays(ada):
    here, others = browser(ada), [browser(ada, IPHONE), browser(ada, EDGE)]
    stranger = browser(make_user("bob"))
    assert "You are signed out in 2 other browsers." in here.post(reverse(PAGE), follow=True).content.decode()
    assert is_in(here) and is_in(stranger) and not any(is_in(other) for other in others)


def test_a_person_is_signed_out_everywhere(ada):
    browsers = [browser(ada), browser(ada)]
    assert sessions.end_all(ada, acting_user=None) == 2
    assert not any(is_in(client) for client in browsers)


def test_the_sessions_of_others_are_not_there(ada):
    bob = browser(make_user("bob"))
    theirs = UserSession.objects.get(session_key=browser(ada).session.session_key).pk
    assert bob.post(reverse("accounts:end_session", args=[theirs])).status_code == 404
    assert UserSession.objects.filter(pk=theirs).exists()


def test_a_new_password_ends_every_other_session(ada):
    here, there = browser(ada), browser(ada, IPHONE)
    socket = Visit(there.session.session_key, ada.pk, ada.get_session_auth_hash())
    before = here.session.session_key
    new = "an admirable compiler"
    answer = here.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert answer.status_code == 302
    assert is_in(here) and here.session.session_key != before
    assert not is_in(there) and over([socket]) == {socket}
    ada.refresh_from_db()
    assert [found.is_this for found in sessions.of_person(ada, this=here.session.session_key)] == [True]


def test_a_session_that_is_over_is_not_listed(ada):
    here = browser(ada)
    Session.objects.filter(session_key=browser(ada).session.session_key).update(expire_date=timezone.now())
    assert len(sessions.of_person(ada, this=here.session.session_key)) == 1


def test_when_a_browser_was_last_seen_is_written_now_and_then(ada):
    here = browser(ada)
    row = UserSession.objects.filter(session_key=here.session.session_key)
    long_ago = timezone.now() - timedelta(days=1)
    row.update(last_seen_at=long_ago)
    is_in(here)
    assert row.get().last_seen_at == long_ago  # signing in was a moment ago
    cache.clear()
    here.get(reverse(PAGE), REMOTE_ADDR="192.0.2.99")
    first = row.get()
    assert first.last_seen_at > long_ago and first.ip == "192.0.2.99"
    is_in(here)
    assert row.get().last_seen_at == first.last_seen_at


def test_who_came_in_by_another_way_is_listed_too(ada):
    here = Client()
    here.force_login(ada)
    cache.clear()
    assert "This browser" in here.get(reverse(PAGE)).content.decode()


def test_the_update_ends_sessions_of_before(ada):
    here = browser(ada)
    import_module("accounts.migrations.0011_everybody_signs_in_once_more").end_sessions(apps, None)
    assert not is_in(here) and not UserSession.objects.exists()


def test_the_list_costs_the_same_however_long_it_is(ada):
    here = browser(ada)
    with CaptureQueriesContext(connection) as few:
        is_in(here)
    for _ in range(5):
        browser(ada)
    with CaptureQueriesContext(connection) as many:
        is_in(here)
    assert len(many) == len(few)


def many(user, count, **session):
    """As many browsers in which the person is signed in, the first of them seen last."""
    data = {SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0], HASH_SESSION_KEY: user.get_session_auth_hash()}
    data, now = SessionStore().encode(data), timezone.now()
    keys = [f"{user.username}{number:030}" for number in range(count)]
    Session.objects.bulk_create([Session(session_key=key, session_data=data, expire_date=session.get("expires", now + timedelta(days=9))) for key in keys])
    UserSession.objects.bulk_create(
        UserSession(user=user, session_key=key, ip="192.0.2.1", user_agent=FIREFOX, last_seen_at=now - timedelta(hours=number + 1))
        for number, key in enumerate(keys)
    )
    return keys


def test_signing_in_costs_the_same_wherever_else_one_is_and_ends_the_oldest(ada):
    browser(ada)
    with CaptureQueriesContext(connection) as few:
        browser(ada)
    bob, cyd = make_user("bob"), make_user("cyd")
    with CaptureQueriesContext(connection) as alone:
        browser(cyd)
    keys = many(bob, 300)
    with CaptureQueriesContext(connection) as crowded:
        here = browser(bob)
    assert len(alone) <= len(few) and len(crowded) <= len(few) + 6, "those that end and record"
    left = set(Session.objects.filter(session_key__in=keys).values_list("session_key", flat=True))
    assert left == set(keys[: sessions.MOST - 1]) and is_in(here)
    assert UserSession.objects.filter(user=bob).count() == len(sessions.of_person(bob)) == sessions.MOST
    entry = AuditEntry.objects.get(action="session.end_oldest")
    assert (entry.object_name, entry.data) == ("bob", {"count": 251})


def test_the_page_shows_no_more_than_a_person_may_have(ada):
    here = browser(ada)
    many(ada, 80)
    assert len(here.get(reverse(PAGE)).context["sessions"]) == sessions.MOST


def test_where_somebody_was_signed_in_is_forgotten_with_the_session(ada, monkeypatch):
    monkeypatch.setattr(signing_in, "_AT_ONCE", 2)
    here = browser(ada)
    many(make_user("bob"), 5, expires=timezone.now())
    signing_in.forget_expired()
    assert UserSession.objects.get().session_key == here.session.session_key == Session.objects.get().session_key
