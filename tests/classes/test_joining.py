"""From the link to the machine, in the browser."""

import re
import time
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Role, User
from classes.models import Enrolment, Invite
from classes.services import invites
from tests.classes.rows import enrol, make_class, make_invite, make_place
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def link(invite):
    return reverse("classes:join", args=[invites.link_token(invite)])


def test_looking_at_an_invite_never_enrols(client):
    lab_class = make_class()
    invite = make_invite(lab_class)
    client.force_login(make_user())
    for method in (client.get, client.head):
        assert method(link(invite)).status_code == 200
    assert not Enrolment.objects.exists()
    assert Invite.objects.get().uses == 0


def test_one_click_enrols_and_gives_a_machine(client):
    lab_class = make_class()
    place = make_place(lab_class)
    student = make_user()
    client.force_login(student)
    answer = client.post(link(make_invite(lab_class)), follow=True)
    assert answer.redirect_chain[-1][0] == reverse("classes:lab_class", args=[lab_class.key])
    assert f"Your machine is {place.machine.name}." in answer.content.decode()
    again = client.get(link(Invite.objects.get()), follow=True)
    assert "already" in again.content.decode()
    assert Invite.objects.get().uses == 1


def test_when_all_machines_are_taken_the_position_is_said(client):
    lab_class = make_class()
    enrol(lab_class)
    client.force_login(make_user())
    page = client.post(link(make_invite(lab_class)), follow=True).content.decode()
    assert "You are number 2 on the waiting list" in page


NEW_ACCOUNT = {"username": "ada", "email": "ada@uni.test", "password1": "a long enough password"}


@pytest.fixture
def unconfirmed(settings):
    """As in a demonstration, which sends no mail."""
    settings.ACCOUNT_EMAIL_VERIFICATION = "optional"


@pytest.mark.usefixtures("unconfirmed")
def test_whoever_has_no_account_signs_up_and_is_in_the_class_without_another_click(client):
    lab_class = make_class()
    place = make_place(lab_class)
    url = link(make_invite(lab_class))
    page = client.get(url).content.decode()
    assert lab_class.name in page and str(lab_class.teacher) in page and "Sign up and join" in page
    sign_up = client.post(url, {"new": ""}).url
    assert sign_up == f"{reverse('account_signup')}?{urlencode({'next': url})}"
    assert url in client.get(sign_up).content.decode()
    answer = client.post(sign_up, NEW_ACCOUNT | {"next": url}, follow=True)
    assert f"Your machine is {place.machine.name}." in answer.content.decode()
    assert place.machine.pk == User.objects.get(username="ada").machines.get().pk


def sign_in(client, student, **more):
    return client.post(reverse("account_login"), {"login": student.username, "password": PASSWORD, **more}, follow=True)


@pytest.mark.parametrize("knows_the_way", [True, False], ids=["by the address", "by what is remembered"])
def test_whoever_has_an_account_signs_in_and_is_in_the_class_without_another_click(client, knows_the_way):
    lab_class = make_class()
    url = link(make_invite(lab_class))
    student = make_user()
    assert client.post(url).url == f"{reverse('account_login')}?{urlencode({'next': url})}"
    answer = sign_in(client, student, **({"next": url} if knows_the_way else {}))
    assert answer.redirect_chain[-1][0] == reverse("classes:lab_class", args=[lab_class.key])
    assert Enrolment.objects.get().student == student


def test_an_address_to_confirm_first_does_not_lose_the_way(client):
    url = link(make_invite(make_class()))
    client.post(url, {"new": ""})
    assert client.post(reverse("account_signup"), NEW_ACCOUNT | {"next": url}).url == reverse("account_email_verification_sent")
    assert not Enrolment.objects.exists()
    client.post(re.search(r"https?://[^/]+(/\S+)", mail.outbox[0].body)[1], follow=True)
    assert Enrolment.objects.get().student.username == "ada"


def test_where_signing_up_is_closed_an_invite_leads_to_signing_in(client, settings):
    settings.SIGN_UP = "closed"
    page = client.get(link(make_invite(make_class()))).content.decode()
    assert "Sign in and join" in page and "Sign up" not in page


def test_signing_in_without_the_click_never_enrols(client):
    url = link(make_invite(make_class()))
    page = sign_in(client, make_user(), next=url).content.decode()
    assert "Join</button>" in page and not Enrolment.objects.exists()


def test_a_click_counts_once_for_its_own_class_and_not_for_long(client, monkeypatch):
    lab_class, other = make_class(), make_class("Other")
    url = link(make_invite(lab_class))
    client.post(url)
    client.force_login(make_user())
    assert client.get(link(make_invite(other))).status_code == 200
    assert not Enrolment.objects.exists()
    client.get(url)
    client.post(reverse("classes:leave", args=[Enrolment.objects.get().lab_class.key]))
    assert client.get(url).status_code == 200
    assert not Enrolment.objects.exists()

    client.logout()
    client.post(url)
    client.force_login(make_user())
    later = time.time() + 2 * 3600
    monkeypatch.setattr("accounts.http.time.time", lambda: later)
    assert client.get(url).status_code == 200
    assert not Enrolment.objects.exists()


def test_a_click_that_no_site_but_ours_can_make(client):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(link(make_invite(make_class()))).status_code == 403
    assert not strict.session.keys()


@pytest.mark.usefixtures("unconfirmed")
def test_an_invite_that_closes_while_somebody_signs_up_says_so(client):
    invite = make_invite(make_class())
    client.post(link(invite), {"new": ""})
    Invite.objects.update(revoked_at=timezone.now())
    answer = client.post(reverse("account_signup"), NEW_ACCOUNT | {"next": link(invite)}, follow=True)
    assert answer.status_code == 410 and "was withdrawn" in answer.content.decode()
    assert not Enrolment.objects.exists()


def test_nobody_is_led_elsewhere_after_signing_in(client):
    student = make_user()
    answer = client.post(reverse("account_login"), {"login": student.username, "password": PASSWORD, "next": "https://evil.test/"})
    assert answer.url == "/"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires_at": timezone.now() - timedelta(hours=1)}, "has expired"),
        ({"revoked_at": timezone.now()}, "was withdrawn"),
        ({"max_uses": 2, "uses": 2}, "is used up"),
    ],
)
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_closed_invite_says_what_happened_and_what_to_do(client, change, words, signed_in):
    invite = make_invite(make_class())
    Invite.objects.filter(pk=invite.pk).update(**change)
    if signed_in:
        client.force_login(make_user())
    for method in (client.get, client.post):
        answer = method(link(invite))
        page = answer.content.decode()
        assert answer.status_code == 410
        assert words in page and f"Ask {invite.lab_class.teacher} for a new invite." in page
    assert not Enrolment.objects.exists()


def test_an_archived_class_says_it_is_over(client):
    invite = make_invite(make_class())
    invite.lab_class.archived_at = timezone.now()
    invite.lab_class.save()
    answer = client.get(link(invite))
    assert answer.status_code == 410 and "This class is over." in answer.content.decode()


@pytest.mark.parametrize(
    "mangle", [lambda token: token[:-1], lambda token: token + "x", lambda token: token.upper(), lambda token: "nonsense", lambda token: "%00.%FF"]
)
def test_a_mangled_link_says_so(client, mangle):
    token = invites.link_token(make_invite(make_class()))
    answer = client.get(f"/join/{mangle(token)}/")
    assert answer.status_code == 404 and "not a whole invite link" in answer.content.decode()


def test_a_code_is_typed_as_people_type(client):
    invite = make_invite(make_class())
    code = invites.spoken(invite)
    for typed in (code, code.lower(), f" {code.replace('-', ' ')} "):
        assert client.post(reverse("classes:code"), {"code": typed}).url == link(invite)
    assert client.post(reverse("classes:code"), {"code": "AAAA-AAAA"}).status_code == 404
    assert client.post(reverse("classes:code"), {"code": ""}).status_code == 200


def test_wrong_codes_are_limited_and_a_lecture_hall_is_not(client):
    invite = make_invite(make_class())
    url = reverse("classes:code")
    for _ in range(100):
        assert client.post(url, {"code": invites.spoken(invite)}).status_code == 302
    answers = [client.post(url, {"code": "AAAAAAAA"}).status_code for _ in range(301)]
    assert answers == [404] * 300 + [429]
    assert client.post(url, {"code": invites.spoken(invite)}).status_code == 429
    assert client.get(link(invite)).status_code == 200  # the link goes on working


def test_a_teacher_may_join_the_own_class_to_try_it(client):
    lab_class = make_class()
    place = make_place(lab_class)
    client.force_login(lab_class.teacher)
    client.post(link(make_invite(lab_class)))
    assert lab_class.teacher.machines.get() == place.machine


def test_leaving_asks_first_and_names_what_is_lost(client):
    lab_class = make_class()
    place = make_place(lab_class)
    client.force_login(enrol(lab_class).student)
    url = reverse("classes:leave", args=[lab_class.key])
    assert place.machine.name in client.get(url).content.decode()
    assert Enrolment.objects.exists()
    assert "You have left" in client.post(url, follow=True).content.decode()
    assert not Enrolment.objects.exists()


def test_the_projector_shows_code_and_picture(client):
    lab_class = make_class()
    invite = make_invite(lab_class)
    client.force_login(make_user(role=Role.STAFF))
    page = client.get(reverse("classes:project", args=[lab_class.key, invite.pk])).content.decode()
    assert invites.spoken(invite) in page and "<path" in page and "style=" not in page
    assert client.get(reverse("classes:project", args=[make_class("Other").key, invite.pk])).status_code == 404


@pytest.mark.parametrize(
    ("host", "site", "shown", "warned"),
    [
        ("localhost:8000", "http://localhost:8000", "http://localhost:8000", True),
        ("127.0.0.1:8000", "http://localhost:8000", "http://127.0.0.1:8000", True),
        ("[::1]:8000", "http://127.3.2.1:8000", "http://[::1]:8000", True),
        ("localhost:8000", "https://labs.uni.test", "https://labs.uni.test", False),
        ("labs.uni.test", "http://localhost:8000", "http://labs.uni.test", False),
        ("labs.uni.test", "https://labs.uni.test", "http://labs.uni.test", False),
    ],
)
def test_a_teacher_is_told_when_students_could_not_open_the_link(client, settings, host, site, shown, warned):
    settings.SITE_URL, settings.ALLOWED_HOSTS = site, [*settings.ALLOWED_HOSTS, "labs.uni.test"]
    lab_class = make_class()
    client.force_login(lab_class.teacher)
    page = reverse("classes:lab_class", args=[lab_class.key])
    assert "Students cannot open" not in client.get(page, headers={"host": host}).content.decode()  # there is no link yet
    invite = make_invite(lab_class)
    text = client.get(page, headers={"host": host}).content.decode()
    assert f"{shown}{link(invite)}" in text
    assert ("Students cannot open this link" in text) is warned
    text = client.get(reverse("classes:project", args=[lab_class.key, invite.pk]), headers={"host": host}).content.decode()
    assert f"{shown.split('//')[1]}/join</p>" in text
    assert ("Students cannot open this link" in text) is warned


def test_an_invite_is_made_and_withdrawn(client):
    lab_class = make_class()
    client.force_login(lab_class.teacher)
    client.post(reverse("classes:new_invite", args=[lab_class.key]), {"lasts": "day", "max_uses": "30"})
    invite = Invite.objects.get()
    assert invite.max_uses == 30 and timedelta(hours=23) < invite.expires_at - timezone.now() <= timedelta(days=1)
    assert link(invite) in client.get(reverse("classes:lab_class", args=[lab_class.key])).content.decode()
    client.post(reverse("classes:revoke", args=[lab_class.key, invite.pk]))
    assert Invite.objects.get().revoked_at is not None
    assert client.get(link(invite)).status_code == 410
