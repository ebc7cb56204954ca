"""What somebody tries who wants to be somebody else. Throttling is tried in test_views.py, the directory's injections
in tests/directory, rights in tests/test_url_matrix.py, where every POST is also tried without its CSRF token."""

import re
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import Role, User
from tests.factories import PASSWORD, make_user
from tests.web import WebProcess

pytestmark = pytest.mark.django_db

LOGIN = "account_login"
NEW = {"username": "grace", "email": "grace@uni.test", "password1": "an admirable compiler"}


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def session_key(client):
    return client.cookies[settings.SESSION_COOKIE_NAME].value


# -- sessions ----------------------------------------------------------------------------------


def test_a_session_from_before_signing_in_is_nobodys_afterwards(client):
    """Fixation: whoever brings another person to use a session they know must not be in it with them."""
    make_user("ada")
    client.session.save()
    client.get(reverse(LOGIN))
    planted = session_key(client)
    client.post(reverse(LOGIN), {"login": "ada", "password": PASSWORD})
    assert session_key(client) != planted
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert thief.get("/").status_code == 302


def test_a_session_that_was_signed_out_opens_nothing(client):
    client.force_login(make_user())
    kept = session_key(client)
    client.post(reverse("account_logout"))
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = kept
    assert thief.get("/").status_code == 302


def test_the_next_person_at_a_browser_finds_nothing_of_the_last(client):
    client.force_login(make_user("ada"))
    session = client.session
    session["something"] = "of ada"
    session.save()
    client.force_login(make_user("bob"))
    assert "something" not in client.session


def test_a_new_password_ends_the_sessions_elsewhere(client):
    user = make_user("ada")
    elsewhere = Client()
    for one in (client, elsewhere):
        one.force_login(user)
    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": NEW["password1"], "password2": NEW["password1"]})
    assert (client.get("/").status_code, elsewhere.get("/").status_code) == (200, 302)


# -- where one is led --------------------------------------------------------------------------

ELSEWHERE = [
    "https://evil.test/",
    "//evil.test/",
    "/\\evil.test/",
    "///evil.test",
    "https:evil.test",
    "javascript:alert(1)",
    "\thttps://evil.test",
    "http:///evil.test",
]


@pytest.mark.parametrize("where", ELSEWHERE)
def test_nobody_is_led_to_another_site(client, where):
    make_user("ada")
    assert client.post(reverse(LOGIN), {"login": "ada", "password": PASSWORD, "next": where}).url == "/"
    assert where not in client.get(reverse("account_signup"), {"next": where}).headers.get("Location", "")
    for name in ("account_logout", LOGIN):
        answer = client.post(reverse(name), {"next": where})
        assert "evil" not in answer.headers.get("Location", "") and "javascript" not in answer.headers.get("Location", "")


@pytest.mark.parametrize("header", ["HTTP_HOST", "HTTP_X_FORWARDED_HOST"])
def test_no_mail_names_a_host_that_the_one_who_asked_made_up(client, header):
    make_user("ada")
    answer = client.post(reverse("account_reset_password"), {"email": "ada@uni.test"}, **{header: "evil.test"})
    assert answer.status_code == 400 or mail.outbox
    assert not any("evil" in letter.body for letter in mail.outbox)


# -- who is here -------------------------------------------------------------------------------


def words(answer, *typed):
    """What a page says, without what was typed into it and what differs from page to page."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", answer.content.decode())
    for one in typed:
        text = text.replace(one, "…")
    return answer.status_code, text


def test_an_address_that_is_taken_signs_up_like_one_that_is_free(client):
    make_user("ada")
    answers = []
    for email in ("ada@uni.test", "free@uni.test"):
        visitor = Client()
        first = visitor.post(reverse("account_signup"), NEW | {"username": email.split("@")[0] + "2", "email": email})
        answers.append((first.status_code, first.url, words(visitor.get(first.url), email)))
    assert answers[0] == answers[1]
    # Only who reads the mail learns more, and nobody else can be signed in.
    assert "already" in mail.outbox[0].body and "ada2" not in mail.outbox[0].body
    assert not User.objects.filter(username="ada2").exists()


@pytest.mark.parametrize("page", [LOGIN, "account_reset_password"])
def test_an_account_is_not_told_from_none(page):
    make_user("ada"), make_user("closed", is_active=False)
    said = []
    for name in ("ada", "closed", "nobody"):
        cache.clear()
        email = f"{name}@uni.test"
        said.append(words(Client().post(reverse(page), {"login": email, "password": "wrong", "email": email}, follow=True), email))
    assert said[0] == said[1] == said[2]


# -- what one may not give oneself ------------------------------------------------------------

EVERYTHING = {"role": "staff", "is_staff": "on", "is_superuser": "on", "is_active": "on", "max_machines": "999", "groups": "1", "id": "1", "verified": "on"}


@pytest.mark.parametrize("page", ["account_signup", "accounts:profile", "account_email", "account_change_password"])
def test_a_form_changes_nothing_that_it_does_not_show(client, page):
    form = NEW | {"action_add": "", "email": "grace@uni.test", "oldpassword": PASSWORD, "password2": NEW["password1"], "keyboard": "us"}
    if page != "account_signup":
        client.force_login(make_user("grace"))
        form |= {"email": "other@uni.test"}
    client.post(reverse(page), form | EVERYTHING)
    user = User.objects.get(username="grace")
    assert (user.role, user.is_staff, user.is_superuser, user.max_machines) == (Role.STUDENT, False, False, None)
    assert not user.groups.exists()
    assert not EmailAddress.objects.filter(email="other@uni.test", verified=True).exists()


def test_nobody_confirms_or_removes_the_address_of_another(client):
    ada, bob = make_user("ada"), make_user("bob")
    client.force_login(bob)
    for action in ("action_remove", "action_primary", "action_send"):
        client.post(reverse("account_email"), {action: "", "email": ada.email})
    assert EmailAddress.objects.filter(user=ada, verified=True, primary=True).count() == 1


# -- what a production portal answers ----------------------------------------------------------


@pytest.fixture
def production(file_database, collected, tmp_path):
    portal = WebProcess(
        tmp_path, collected, SITE_URL="https://labs.example.org", ALLOWED_HOSTS="labs.example.org", BEHIND_PROXY="true", SECURE_SSL_REDIRECT="true"
    )
    portal.start()
    yield portal
    portal.kill()


def ask(portal, path, *, cookies="", proto="https", **form):
    """As the proxy in front hands it on. Returns status, headers, and the cookies that were set."""
    address = urlsplit(portal.url)
    connection = HTTPConnection(address.hostname, address.port, timeout=30)
    headers = {
        "Host": "labs.example.org",
        "X-Forwarded-Proto": proto,
        "X-Forwarded-For": "192.0.2.1",
        "Referer": "https://labs.example.org/",
        "Cookie": cookies,
    }
    body = urlencode(form) if form else None
    connection.request("POST" if form else "GET", path, body, headers | ({"Content-Type": "application/x-www-form-urlencoded"} if form else {}))
    answer = connection.getresponse()
    set_cookies = SimpleCookie()
    for line in answer.msg.get_all("Set-Cookie") or []:
        set_cookies.load(line)
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.msg, set_cookies, text


@pytest.mark.processes
def test_a_portal_behind_https_keeps_its_cookies_to_itself(production, settings):
    settings.PASSWORD_HASHERS = ["accounts.hashers.PBKDF2InTurn"]  # as the portal has it; the tests hash quickly
    make_user("ada")
    status, headers, cookies, text = ask(production, reverse(LOGIN))
    assert status == 200
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)[1]
    sent = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
    status, headers, signed_in, _ = ask(production, reverse(LOGIN), cookies=sent, login="ada", password=PASSWORD, csrfmiddlewaretoken=token)
    assert status == 302
    session = signed_in[settings.SESSION_COOKIE_NAME]
    assert session["httponly"] and session["secure"] and session["samesite"] == "Lax" and session["path"] == "/" and not session["domain"]
    for morsel in (*cookies.values(), *signed_in.values()):
        assert morsel["secure"] and morsel["samesite"] == "Lax", morsel.key
    assert int(re.search(r"max-age=(\d+)", headers["Strict-Transport-Security"])[1]) >= 31536000
    assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy


@pytest.mark.processes
def test_a_portal_behind_https_answers_nothing_else_and_no_other_name(production):
    status, headers, *_ = ask(production, reverse(LOGIN), proto="http")
    assert (status, headers["Location"]) == (301, "https://labs.example.org" + reverse(LOGIN))
    address = urlsplit(production.url)
    connection = HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request("GET", reverse(LOGIN), headers={"Host": "evil.test", "X-Forwarded-Proto": "https"})
    assert connection.getresponse().status == 400
    connection.close()
