"""What people tell about themselves, and what nobody takes for themselves by that."""

from datetime import UTC, datetime

import pytest
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone, translation

from accounts.forms import ProfileForm
from accounts.middleware_person import OwnPreferences
from accounts.models import DIRECTORY, AuditEntry, Identity, Role, User
from accounts.services import preferences
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

PAGE = "accounts:profile"
NOT_THEIRS = {
    "role": "staff",
    "is_staff": "on",
    "is_superuser": "on",
    "is_active": "",
    "username": "root",
    "email": "root@uni.test",
    "password": "x",
    "max_machines": "99",
    "max_cores": "99",
    "max_memory_mib": "99",
    "user": "1",
    "id": "1",
    "pk": "1",
    "removal_asked_at": "2020-01-01",
    "fingerprint": "SHA256:other",
}
HELD = ("role", "is_staff", "is_superuser", "is_active", "username", "email", "max_machines", "max_cores", "max_memory_mib")


@pytest.fixture
def ada(client):
    user = make_user("ada", first_name="Ada", last_name="Lovelace")
    client.force_login(user)
    return user


def post(client, **values):
    return client.post(reverse(PAGE), {"keyboard": "us", "mail_decisions": "on", "mail_reminders": "on", **values})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("accounts:profile", {"keyboard": "de", "first_name": "A"}),
        ("accounts:ssh_keys", {"text": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"}),
        ("accounts:sessions", {}),
        ("accounts:data", {}),
        ("accounts:export", {}),
        ("accounts:ask_removal", {}),
        ("account_email", {"action_add": "", "email": "new@uni.test"}),
        ("account_change_password", {"oldpassword": PASSWORD, "password1": "an admirable compiler", "password2": "an admirable compiler"}),
    ],
)
def test_no_form_takes_what_is_not_ones_own_to_change(client, ada, name, data):
    other = make_user("other")
    before = {field: getattr(User.objects.get(pk=ada.pk), field) for field in HELD}
    untouched = User.objects.values().get(pk=other.pk)
    client.post(reverse(name), {**NOT_THEIRS, "user": str(other.pk), **data})
    ada.refresh_from_db()
    assert {field: getattr(ada, field) for field in HELD} == before
    assert User.objects.values().get(pk=other.pk) == untouched and not other.ssh_keys.exists()


def test_changes_are_kept_and_recorded_by_their_names(client, ada):
    assert post(client, first_name="Augusta", last_name="King", time_zone="Europe/Zurich", mail_reminders="").status_code == 302
    ada.refresh_from_db()
    assert (str(ada), ada.time_zone, ada.mail_decisions, ada.mail_reminders) == ("Augusta King", "Europe/Zurich", True, False)
    entry = AuditEntry.objects.get(action="user.profile")
    assert entry.data == {"changed": ["first_name", "last_name", "mail_reminders", "time_zone"]}
    post(client, first_name="Augusta", last_name="King", time_zone="Europe/Zurich", mail_reminders="")
    assert AuditEntry.objects.filter(action="user.profile").count() == 1  # nothing changed, nothing recorded


@pytest.mark.parametrize("wrong", ["Europe/Nowhere", "../../etc/passwd", "posixrules"])
def test_only_zones_that_exist_are_taken(client, ada, wrong):
    assert post(client, time_zone=wrong).status_code == 200
    ada.refresh_from_db()
    assert ada.time_zone == ""


def test_a_refused_profile_does_not_rename_the_page(client, ada):
    text = post(client, first_name="Eve", keyboard="klingon").content.decode()
    assert "Account of Ada Lovelace" in text


def test_only_staff_are_asked_whether_they_want_the_mail_of_staff(client, ada):
    assert "mail_staff" not in ProfileForm(instance=ada).fields
    post(client, mail_staff="")
    ada.refresh_from_db()
    assert ada.mail_staff
    assert "mail_staff" in ProfileForm(instance=make_user(role=Role.STAFF)).fields


@pytest.mark.parametrize(("source", "words"), [(DIRECTORY, "directory of your university"), ("sso:keycloak", "the account you sign in with")])
def test_names_that_come_from_elsewhere_are_changed_there(client, ada, source, words):
    Identity.objects.create(user=ada, source=source, uid="1")
    text = client.get(reverse(PAGE)).content.decode()
    assert words in text and text.count(" disabled") == 2
    post(client, first_name="Eve", last_name="Else", keyboard="de")
    ada.refresh_from_db()
    assert (str(ada), ada.keyboard) == ("Ada Lovelace", "de")


def test_who_was_given_no_name_there_writes_their_own(client, ada):
    User.objects.update(first_name="", last_name="")
    Identity.objects.create(user=ada, source="sso:keycloak", uid="1")
    post(client, first_name="Ada")
    ada.refresh_from_db()
    assert ada.first_name == "Ada"


def page_for(user):
    """What a page for this person says of a moment and of its language."""
    moment = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
    seen = []

    def view(request):
        shown = Template("{% load portal %}{{ moment|clock }}").render(Context({"moment": moment}))
        seen.append((shown.partition(">")[2].partition("<")[0], translation.get_language(), timezone.get_current_timezone_name()))

    request = RequestFactory().get("/")
    request.user = user
    OwnPreferences(view)(request)
    return seen[0]


def test_times_are_in_the_persons_zone_and_only_within_their_request():
    assert page_for(make_user(time_zone="Europe/Zurich")) == ("14:00:00", "en", "Europe/Zurich")
    assert page_for(make_user()) == ("12:00:00", "en", "UTC")
    assert page_for(make_user(time_zone="Mars/Olympus", language="tlh")) == ("12:00:00", "en", "UTC")
    assert timezone.get_current_timezone_name() == "UTC"


def test_a_language_is_chosen_where_there_is_more_than_one(client, ada, settings):
    settings.LANGUAGES = [("en", "English")]
    assert "language" not in ProfileForm(instance=ada).fields
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    assert post(client, language="fr").status_code == 200
    post(client, language="de")
    ada.refresh_from_db()
    assert ada.language == "de" and page_for(ada)[1] == "de"
    assert '<html lang="de"' in client.get(reverse(PAGE)).content.decode()
    settings.LANGUAGES = [("en", "English")]  # a language that the portal no longer has
    assert page_for(ada)[1] == "en"


def test_the_page_tells_the_browser_of_the_zone(client, ada):
    assert "data-zone" not in client.get(reverse(PAGE)).content.decode()
    post(client, time_zone="Europe/Zurich")
    assert 'data-zone="Europe/Zurich"' in client.get(reverse(PAGE)).content.decode()


def test_zones_are_grouped_and_each_is_there_once():
    groups = preferences.zones_by_region()
    named = [zone for _region, zones in groups for zone, _label in zones]
    assert len(named) == len(set(named)) == len(preferences.zones()) > 300
    assert "Europe/Zurich" in named and "UTC" in named and "localtime" not in named
