"""What `manage.py ldap_check` says of people and of failures, against a real OpenLDAP."""

import io

import pytest
from django.conf import settings as portal
from django.core.management import CommandError, call_command

from accounts.directory.client import Directory
from accounts.directory.config import Attributes, Groups
from accounts.directory.probe import probe
from accounts.models import AuditEntry, Role, User
from accounts.services import identities, people, roles
from classes.services import enrolment
from tests import slapd as tree
from tests.authority import Authority
from tests.classes.rows import make_class
from tests.directory.config import config_for
from tests.factories import make_user
from tests.slapd import black_hole, free_port, password_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def configured(still_slapd, settings):
    settings.DIRECTORY = config_for(still_slapd)
    return still_slapd


def said(user, *more) -> tuple[str, bool]:
    """What is printed, the last sentence too, and whether the exit code is 0."""
    out = io.StringIO()
    try:
        call_command("ldap_check", user, *more, stdout=out, no_color=True)
    except CommandError as error:
        return f"{out.getvalue()}\n{error}", False
    return out.getvalue(), True


def came(name) -> User:
    return identities.settle_entry(Directory(portal.DIRECTORY).find(name), portal.DIRECTORY)


# -- people ------------------------------------------------------------------------------------


def test_all_that_is_known_of_a_person(configured):
    text, good = said("dora")
    assert good and "wrong" not in text
    for words in (
        f"people: (objectClass=person) under {tree.PEOPLE}",
        f"portal's account: {tree.PORTAL_DN}",
        f"Server {configured.uri}: reached in ",
        "no encryption",
        f"as {tree.PORTAL_DN}",
        configured.dns["dora"],
        configured.value(configured.dns["dora"], "entryUUID").decode(),
        "dora@uni.test",
        "teacher, by teachers",
        "“dora” is made at the first sign-in, as teacher",
        "“dora” can sign in, with the right password.",
    ):
        assert words in text, words
    others = text.partition("Groups by others: ")[2].partition("ok ")[0]
    assert "cn=loop-b" in others and "cn=teachers" in others and "cn=lecturers" not in others and "cn=loop-a" not in others
    assert tree.PORTAL_PASSWORD not in text
    assert not User.objects.exists() and not AuditEntry.objects.exists(), "looking changes nothing"


def test_the_account_of_somebody_who_was_here(configured):
    carol = came("carol")
    text, good = said("carol@uni.test")
    assert good and "“carol”, now teacher, last seen 20" in text and "Role here: stays teacher" in text
    roles.set_role(carol, Role.STUDENT, acting_user=None)
    assert "stays student: given in the portal or by another system" in said("carol")[0]
    carol.identities.update(role_given="")
    assert "teacher from the next sign-in on; before, the groups gave nothing" in said("carol")[0]
    User.objects.update(is_superuser=True)
    assert "stays staff: a superuser" in said("carol")[0]


def test_a_role_that_groups_do_not_give_any_more(configured):
    bob = came("bob")
    bob.identities.update(role_given="teacher")
    roles.set_role(bob, Role.TEACHER, acting_user=None)
    assert "student from the next sign-in on; before, the groups gave teacher" in said("bob")[0]


def test_who_would_get_another_name_and_no_address(configured):
    make_user("Alice", email="alice@uni.test")
    text, good = said("alice")
    assert good and "“alice@directory” is made" in text and "alice@uni.test is confirmed as somebody else's" in text


def test_a_name_in_other_letters(configured):
    text, good = said("ａlice")
    assert not good and configured.dns["alice"] in text and "type the name as the entry has it" in text


def test_whose_account_is_closed(configured):
    bob, staff = came("bob"), make_user(role=Role.STAFF)
    people.deactivate(bob, acting_user=staff)
    text, good = said("bob")
    assert not good and "closed by staff" in text and "cannot sign in" in text
    bob.identities.update(closed_at="2026-01-01T00:00Z")
    text, good = said("bob")
    assert good and "the next sign-in opens it again" in text


def test_the_classes_that_groups_bring(configured):
    by_group, other, own, left = (make_class(name) for name in ("By group", "Other", "Own", "Left"))
    for lab_class in (by_group, own, left):
        lab_class.directory_group = tree.NETWORKS
        lab_class.save()
    bob = came("bob")
    own.teacher = bob
    own.save()
    enrolment.leave(left.enrolments.get())
    text, good = said("bob")
    assert good and "Class By group: in it, by networks" in text and "Class Own: teaches it" in text and "Class Left: taken out of it" in text
    assert f"Class {other}" not in text
    assert "Class By group: in it" in said("alice")[0]


@pytest.mark.parametrize(
    ("user", "found", "advice"),
    [
        ("nobody", ": nobody", "slip in the name"),
        ("lab@uni.test", "uid=twin1", "Several people have this name"),
        ("\x00", "can be no name", "254 characters"),
        ("suspended", "disabled this account", "Enable it in the directory"),
        ("barred", "disabled this account", "Enable it in the directory"),
        ("*", ": nobody", "slip in the name"),
        ("alice)(uid=*", ": nobody", "slip in the name"),
    ],
)
def test_who_cannot_sign_in(configured, user, found, advice):
    text, good = said(user)
    assert not good and found in text and advice in text and "cannot sign in" in text


@pytest.mark.parametrize(
    ("changes", "found", "advice"),
    [
        ({"required_groups": frozenset({tree.STAFF})}, "in none of the required groups staff", "LDAP_REQUIRED_GROUPS"),
        ({"role_groups": {"staff": frozenset({tree.STAFF})}, "student_by_default": False}, "in no group of a role", "LDAP_STUDENT_BY_DEFAULT"),
        ({"user_filter": "(objectClass=device)"}, ": nobody", "LDAP_USER_FILTER"),
        ({"attributes": Attributes(uid="employeeNumber")}, "does not say who this is", "LDAP_KIND"),
        ({"bind_password": "secret but wrong"}, "Invalid credentials", "ldapwhoami"),
        ({"bind_dn": "cn=nobody,dc=uni,dc=test"}, "Invalid credentials", "LDAP_BIND_DN or LDAP_BIND_PASSWORD"),
        ({"user_bases": ("ou=nowhere,dc=uni,dc=test",)}, "no such place", "LDAP_USER_BASES"),
        ({"groups": Groups(bases=("ou=nowhere,dc=uni,dc=test",))}, "no such place", "LDAP_GROUP_BASES"),
        ({"bind_dn": "", "bind_password": ""}, "does not let the portal search", "or set it if there is none"),
        (
            {"bind_dn": "", "bind_password": "", "direct_bind": "uid={login},ou=people,dc=uni,dc=test"},
            "does not let the portal search",
            "this check, and the nightly sync, need LDAP_BIND_DN",
        ),
    ],
)
def test_what_is_wrong_with_the_settings(still_slapd, settings, changes, found, advice):
    settings.DIRECTORY = config_for(still_slapd, **changes)
    text, good = said("alice")
    assert not good and found in text and advice in text
    assert "secret but wrong" not in text and tree.PORTAL_PASSWORD not in text


def test_a_password_is_tried(configured, monkeypatch):
    for password, answer, right in ((password_of("alice"), "Password: right", True), ("wrong", "Password: refused", False)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        text, good = said("alice", "--password")
        assert answer in text and good is right and password_of("alice") not in text


def test_without_a_directory_it_says_so(settings):
    settings.DIRECTORY = None
    for command in (["ldap_check", "bob"], ["directory_sync"]):
        with pytest.raises(CommandError, match="LDAP_URIS is not set"):
            call_command(*command)


# -- servers -----------------------------------------------------------------------------------


def test_what_is_known_of_the_encryption(still_slapd, settings):
    for uri in (still_slapd.tls_uri, still_slapd.uri):
        settings.DIRECTORY = config_for(still_slapd, uri, start_tls=True, ca_file=still_slapd.ca_file)
        text, good = said("alice")
        assert good and "TLSv1.3, certificate for 127.0.0.1 by Authority of the university, valid until " in text


def test_one_server_of_two_that_is_down_is_a_note(still_slapd, settings):
    gone = f"ldap://127.0.0.1:{free_port()}"
    settings.DIRECTORY = config_for(still_slapd, gone, still_slapd.uri)
    text, good = said("alice")
    assert good and f"note   Server {gone}: no server listens there" in text


def test_nobody_answers(still_slapd, settings):
    with black_hole() as hole:
        settings.DIRECTORY = config_for(still_slapd, f"ldap://127.0.0.1:{free_port()}", hole, "ldap://directory.invalid", start_tls=True, timeout=0.5)
        text, good = said("alice")
    assert not good
    for words in ("no server listens there", "nothing answers in time", "nobody knows this name", "does not answer at the moment", "See the servers above"):
        assert words in text, words


def test_certificates_that_are_refused(slapd, settings, tmp_path):
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority("Somebody else").certificate)
    for uri in (slapd.tls_uri, slapd.uri):
        for ca_file, advice in ((stranger, f"not signed by an authority of {stranger}"), (None, "with LDAP_CA_FILE")):
            settings.DIRECTORY = config_for(slapd, uri, start_tls=True, ca_file=ca_file)
            text, good = said("alice")
            assert not good and "its certificate is refused" in text and advice in text
    slapd.stop()
    slapd.present(slapd.authority, "other.uni.test")
    slapd.start()
    settings.DIRECTORY = config_for(slapd, slapd.tls_uri, ca_file=slapd.ca_file)
    text, good = said("alice")
    assert not good and "another name than 127.0.0.1" in text


def test_ports_that_speak_something_else(still_slapd, settings):
    settings.DIRECTORY = config_for(still_slapd, still_slapd.uri.replace("ldap://", "ldaps://"), ca_file=still_slapd.ca_file)
    text, good = said("alice")
    assert not good and "it speaks no TLS" in text and "389" in text


# -- the sync by hand --------------------------------------------------------------------------


def synced(*options) -> str:
    out = io.StringIO()
    call_command("directory_sync", *options, stdout=out)
    return out.getvalue()


def test_the_sync_by_hand_says_what_it_does(slapd, settings):
    settings.DIRECTORY = config_for(slapd)
    bob, _carol = came("bob"), came("carol")
    slapd.change(slapd.dns["bob"], nsAccountLock="TRUE")
    assert synced("--dry-run") == "disabled: 1\npresent: 1\nwould be deactivated: bob\n"
    assert User.objects.get(pk=bob.pk).is_active
    assert synced() == "disabled: 1\npresent: 1\ndeactivated: bob\n"
    slapd.stop()
    with pytest.raises(CommandError, match="does not answer as it should"):
        synced()


def test_the_sync_by_hand_asks_before_it_closes_too_much(slapd, settings):
    settings.DIRECTORY = config_for(slapd)
    came("bob")
    slapd.delete(slapd.dns["bob"])
    synced()
    with pytest.raises(CommandError, match="add --yes"):
        synced()
    assert "deactivated: bob" in synced("--yes")


def test_a_name_that_can_be_none_is_one_that_nobody_knows(configured):
    assert probe("ldaps://ldap..example.org", portal.DIRECTORY).problem == "nobody knows this name"
