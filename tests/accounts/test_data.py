"""Taking one's data away, and asking to be removed."""

import json

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import translation

from accounts.models import DIRECTORY, ApiToken, AuditEntry, Identity, Role, User
from accounts.services import audit, export, letters, removal, ssh_keys
from machines.lifecycle import State
from machines.models import RealmIdentity
from tests.classes.rows import enrol, make_class
from tests.factories import PASSWORD, make_machine, make_request, make_user

pytestmark = pytest.mark.django_db

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


@pytest.fixture
def ada():
    return make_user("ada", first_name="Ada")


@pytest.fixture
def hers(ada):
    """Signed in a moment ago, by password."""
    client = Client()
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    return client


def download(client):
    answer = client.post(reverse("accounts:export"))
    assert answer["Content-Type"] == "application/json" and answer["Content-Disposition"].startswith('attachment; filename="ada-')
    return json.loads(answer.content)


def test_the_file_holds_what_is_kept_of_a_person_and_nothing_of_others(ada, hers):
    ssh_keys.add(ada, given=KEY, name="laptop")
    identity = Identity.objects.create(user=ada, source=DIRECTORY, uid="uuid-1", name="ada", groups=["cn=students"])
    identity.names.create(name="ada@ad.uni.test")
    ApiToken.objects.create(user=ada, name="script", digest="d" * 64, scopes=["read"])
    machine = make_machine("web-01", owner=ada, password="machine-secret", ssh_private_key="private-secret")
    make_machine("of-bob", owner=make_user("bob"))
    make_request(ada, template=machine.template, reason="For my thesis.")
    enrol(make_class("Web"), ada)
    RealmIdentity.objects.create(user=ada, cluster=machine.cluster, userid="ada@pve", role_before="student")
    found = download(hers)
    assert found["profile"].keys() >= {field.name for field in User._meta.concrete_fields} - {"id", "password", "is_active", "is_staff", "is_superuser"}
    assert found["profile"]["username"] == "ada" and found["profile"]["first_name"] == "Ada"
    assert [machine["name"] for machine in found["machines"]] == ["web-01"]
    assert found["ssh_keys"][0]["text"] == KEY and found["identities"][0]["uid"] == "uuid-1"
    assert found["identities"][0]["names"] == ["ada@ad.uni.test"]
    assert found["realm_accounts"] == [{"cluster__name": machine.cluster.name, "userid": "ada@pve", "role_before": "student"}]
    assert found["api_tokens"][0]["name"] == "script" and found["requests"][0]["reason"] == "For my thesis."
    assert [lesson["lab_class__name"] for lesson in found["classes_joined"]] == ["Web"]
    assert "ssh_key.add" in [line["action"] for line in found["record"]] and found["sessions"][0]["ip"] == "127.0.0.1"
    assert found["cut"] == []
    text = json.dumps(found)
    for secret in ("machine-secret", "private-secret", "d" * 64, ada.password, hers.session.session_key, "of-bob", "bob"):
        assert secret not in text


def test_getting_it_is_recorded(ada, hers):
    download(hers)
    assert AuditEntry.objects.filter(action="user.export", actor=ada, object_id=str(ada.pk)).count() == 1


def test_a_long_record_is_cut_and_says_so(ada, hers, monkeypatch):
    monkeypatch.setattr(export, "MOST", 3)
    for number in range(5):
        audit.record("test.done", acting_user=ada, target=ada, number=number)
    found = download(hers)
    assert [line["data"] for line in found["record"]] == [{"number": 4}, {"number": 3}, {"number": 2}] and found["cut"] == ["record"]


def test_it_is_given_a_few_times_an_hour(hers):
    answers = [hers.post(reverse("accounts:export")) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [302]
    assert "several times within the hour" in hers.get(answers[-1].url).content.decode()


@pytest.mark.parametrize("page", ["accounts:export", "accounts:ask_removal"])
def test_whoever_sits_at_an_open_browser_needs_the_password(ada, client, page):
    client.force_login(ada)
    again = f"{reverse('account_reauthenticate')}?next="
    assert client.get(reverse(page)).url.startswith(again)
    client.post(reverse(page))
    assert not AuditEntry.objects.filter(action__in=["user.export", "user.removal_asked"]).exists()
    assert client.post(reverse("account_reauthenticate"), {"password": "wrong", "next": reverse(page)}).status_code == 200
    assert client.get(reverse(page)).url.startswith(again)


def test_the_password_leads_to_the_page_of_the_file_and_not_to_the_file(ada, client):
    """The browser would stay at the question for the password."""
    client.force_login(ada)
    page = reverse("accounts:export")
    assert client.post(page).url == page
    assert client.get(page).status_code == 302
    assert client.post(reverse("account_reauthenticate"), {"password": PASSWORD, "next": page}).url == page
    assert client.get(page).status_code == 200 and download(client)["profile"]["username"] == "ada"


def test_a_password_that_is_hashed_anew_when_it_is_typed_again_does_not_sign_out(ada, client, settings):
    client.force_login(ada)
    before = ada.password
    settings.PASSWORD_HASHERS = ["accounts.hashers.PBKDF2InTurn", *settings.PASSWORD_HASHERS]
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    ada.refresh_from_db()
    assert ada.password != before and client.get(reverse("accounts:export")).status_code == 200


# -- removal ------------------------------------------------------------------------------------


def test_asking_says_what_becomes_of_what_one_has(ada, hers):
    make_machine("web-01", owner=ada)
    make_machine("old-01", owner=ada, state=State.DESTROYED)
    make_class("Databases", teacher=ada)
    text = hers.get(reverse("accounts:ask_removal")).content.decode()
    assert "web-01" in text and "old-01" not in text and "These classes need another teacher first: Databases." in text


def test_staff_are_told_and_decide(ada, hers):
    make_user("sam", role=Role.STAFF)
    make_user("tired", role=Role.STAFF, mail_staff=False)
    make_machine("web-01", owner=ada)
    for _ in range(2):  # asking twice is asking once
        hers.post(reverse("accounts:ask_removal"))
    ada.refresh_from_db()
    assert ada.removal_asked_at is not None and ada.is_active
    assert AuditEntry.objects.filter(action="user.removal_asked").count() == 1
    assert mail.outbox == []  # no page waits for a mail server
    assert letters.send_due() == 1
    (letter,) = mail.outbox
    assert letter.to == ["sam@uni.test"] and letter.subject == "[labportal] Ada asks to be removed"
    assert "web-01" in letter.body and f"/admin/accounts/user/{ada.pk}/change/" in letter.body
    assert hers.get("/").status_code == 200  # nothing else changed


def test_it_can_be_taken_back(ada, hers):
    removal.ask(ada)
    assert "You have asked to be removed" in hers.get(reverse("accounts:data")).content.decode()
    hers.post(reverse("accounts:take_back_removal"))
    hers.post(reverse("accounts:take_back_removal"))
    ada.refresh_from_db()
    assert ada.removal_asked_at is None
    assert AuditEntry.objects.filter(action="user.removal_taken_back").count() == 1


def test_staff_read_of_a_wish_once_and_only_while_it_stands(ada):
    for name, language in (("sam", "de"), ("eve", "en"), ("bob", "en")):
        make_user(name, role=Role.STAFF, language=language)
    make_machine("web-01", owner=ada)
    for _ in range(3):
        removal.ask(ada)
        removal.take_back(ada)
    assert letters.send_due() == 0
    removal.ask(ada)
    User.objects.filter(username="bob").update(role=Role.STUDENT)
    assert letters.send_due() == 2
    (english,) = [sent.body for sent in mail.outbox if sent.to == ["eve@uni.test"]]
    (german,) = [sent.body for sent in mail.outbox if sent.to == ["sam@uni.test"]]
    with translation.override("de"):
        assert all(sentence in german and sentence not in english for sentence in removal.holdings(ada))
    removal.take_back(ada)
    removal.ask(ada)
    assert letters.send_due() == 0  # they know since today


def test_mails_to_a_person_are_in_the_file_and_what_staff_read_of_them_is_not(ada, hers):
    sam = make_user("sam", role=Role.STAFF)
    letters.notify(ada, "second_factor_reset")
    removal.ask(ada)
    (sent,) = export.export(ada)["mails"]
    assert sent["to"] == "ada@uni.test" and export.export(sam)["mails"] == []
