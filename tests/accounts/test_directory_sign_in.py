"""People of the university's directory sign in with it, and nobody gets their account in another way."""

import time
from dataclasses import replace

import pytest
from allauth.account import app_settings
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.directory.client import Directory
from accounts.directory.config import Attributes
from accounts.models import DIRECTORY, AuditEntry, Identity, Role, User
from accounts.selectors import meant_by, tried_by
from accounts.services import directory, directory_sync, identities
from tests import slapd as tree
from tests.directory.config import config_for
from tests.factories import PASSWORD, make_user
from tests.slapd import black_hole, password_of

pytestmark = pytest.mark.django_db


BUSY = 4  # seconds that hashing and the page may take while other tests run; without time-outs it was more than 15 in all


@pytest.fixture(autouse=True)
def _no_failures_counted_before():
    cache.clear()


@pytest.fixture
def configured(settings):
    """Sign in with this directory; `changes` as in DirectoryConfig."""

    def configure(server, *uris, **changes):
        settings.DIRECTORY = config_for(server, *uris, **changes)
        settings.AUTHENTICATION_BACKENDS = [directory.BACKEND, *(path for path in settings.AUTHENTICATION_BACKENDS if path != directory.BACKEND)]
        settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"

    return configure


@pytest.fixture
def university(configured, still_slapd):
    configured(still_slapd)
    return still_slapd


def post(login, password, **more):
    client = Client()
    answer = client.post(reverse("account_login"), {"login": login, "password": password, **more})
    return client, answer


def signed_in(login, password, **more) -> User | None:
    client, answer = post(login, password, **more)
    user = client.get(reverse("account_login")).wsgi_request.user
    assert answer.status_code == (302 if user.is_authenticated else 200)
    return user if user.is_authenticated else None


def as_person(uid, login=""):
    return signed_in(login or uid, password_of(uid))


# -- who comes in ------------------------------------------------------------------------------


def test_who_comes_for_the_first_time_is_in_at_once(university):
    """Nobody is left at the confirmation of an address that the university vouches for."""
    alice = as_person("alice")
    assert (alice.username, alice.get_full_name(), alice.email, alice.role) == ("alice", "Alice Müller", "alice@uni.test", Role.STUDENT)
    assert not alice.has_usable_password()
    assert EmailAddress.objects.filter(user=alice, email="alice@uni.test", verified=True, primary=True).exists()
    assert not mail.outbox
    assert as_person("nomail").email == ""


def test_name_address_and_case_lead_to_one_account(university):
    assert as_person("alice") == as_person("alice", "alice@uni.test") == as_person("alice", "Alice") == as_person("alice", "ALICE@UNI.TEST")
    assert User.objects.count() == Identity.objects.count() == 1


@pytest.fixture
def active_directory(configured, slapd):
    """Where Alice has more names: the one that Active Directory binds with, and a second address."""
    configured(slapd, attributes=Attributes(name="sAMAccountName", logins=("sAMAccountName", "userPrincipalName", "mail")))
    classes = ["top", "person", "organizationalPerson", "inetOrgPerson", "foreignPerson"]
    more = {"sAMAccountName": "alice", "userPrincipalName": "alice@ad.uni.test", "mail": ["alice@uni.test", "A.Lias@uni.test"]}
    slapd.change(slapd.dns["alice"], objectClass=classes, **more)
    return slapd


def test_another_name_with_an_at_is_no_address_that_waits_to_be_confirmed(active_directory):
    for login in ("alice@ad.uni.test", "a.lias@uni.test", "alice@ad.uni.test", "alice"):  # at the first time too
        assert as_person("alice", login), login
    assert list(EmailAddress.objects.values_list("email", "verified")) == [("alice@uni.test", True)]
    assert not mail.outbox


def test_who_has_the_directorys_address_here_keeps_nobody_out_who_types_it(university):
    make_user("other", email="alice@uni.test")
    alice = as_person("alice", "alice@uni.test")
    assert alice.email == ""
    EmailAddress.objects.create(user=alice, email="private@else.test", verified=True, primary=True)
    assert as_person("alice", "alice@uni.test") == alice
    assert alice.emailaddress_set.get().email == "private@else.test"
    assert not mail.outbox


@pytest.mark.parametrize(("uid", "role"), [("bob", Role.STUDENT), ("dora", Role.TEACHER), ("erik", Role.STAFF)])
def test_groups_give_the_role(university, uid, role):
    assert as_person(uid).role == role


def test_roles_follow_the_groups_at_the_next_sign_in(configured, slapd):
    configured(slapd)
    make_user(role=Role.STAFF)  # the last one would stay
    assert as_person("carol").role == Role.TEACHER
    slapd.join(tree.STAFF, slapd.dns["carol"], "uniqueMember")
    assert as_person("carol").role == Role.STAFF
    slapd.leave(tree.STAFF, slapd.dns["carol"], "uniqueMember")
    slapd.join(tree.TEACHERS, slapd.dns["alice"])
    slapd.leave(tree.TEACHERS, slapd.dns["carol"])
    assert as_person("carol").role == Role.STUDENT


def test_who_is_renamed_or_moved_keeps_their_account(configured, slapd):
    configured(slapd)
    bob = as_person("bob")
    slapd.rename("bob", "robert")
    slapd.move("robert", tree.EMPLOYEES)
    assert signed_in("robert", password_of("bob")) == bob
    assert signed_in("bob", password_of("bob")) is None
    assert Identity.objects.get().name == "robert"


def test_a_new_person_with_an_old_name_gets_an_account_of_their_own(configured, slapd):
    configured(slapd)
    before = as_person("alice")
    slapd.delete(slapd.dns["alice"])
    assert as_person("alice") is None
    slapd.add_person("alice", "Alice", "Another", tree.INFORMATICS)
    after = as_person("alice")
    assert after != before and after.username != "alice"


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", "\0"),
        ("*", password_of("alice")),
        ("alice)(uid=*", password_of("alice")),
        ("alice\\", password_of("alice")),
        ("lab@uni.test", password_of("twin1")),
        ("suspended", password_of("suspended")),
        ("barred", password_of("barred")),
        ("locked", password_of("locked")),
        ("nobody-here", "wrong"),
    ],
)
def test_nobody_else_comes_in_and_all_get_the_same_answer(university, login, password):
    client, answer = post(login, password)
    assert not client.get(reverse("account_login")).wsgi_request.user.is_authenticated
    assert answer.status_code == 200 and not User.objects.exists()
    if password.strip("\0"):
        assert "not correct" in answer.content.decode()
        assert AuditEntry.objects.filter(action="user.sign_in_failed").count() == 1
        assert password not in str(list(AuditEntry.objects.values()))


def test_who_is_deactivated_here_gets_the_answer_of_a_wrong_password(university):
    User.objects.filter(pk=as_person("alice").pk).update(is_active=False)
    _, answer = post("alice", password_of("alice"))
    assert answer.status_code == 200 and "not correct" in answer.content.decode()


def test_who_is_deactivated_is_out_at_once(university):
    client, _ = post("alice", password_of("alice"))
    assert client.get(reverse("accounts:profile")).status_code == 200
    User.objects.update(is_active=False)
    assert client.get(reverse("accounts:profile")).status_code == 302


# -- nobody's account is another's -------------------------------------------------------------


def test_who_signed_up_before_with_that_name_and_address_gets_nothing(university):
    """The take-over: an account of that name is waiting when its owner in the directory comes."""
    squatter = make_user("alice", email="alice@uni.test")
    EmailAddress.objects.filter(user=squatter).update(verified=False)
    alice = as_person("alice")
    assert alice != squatter and not alice.has_usable_password()
    squatter.refresh_from_db()
    assert squatter.role == Role.STUDENT and not squatter.identities.exists()
    _, answer = post("alice", PASSWORD)
    assert answer.url == reverse("account_email_verification_sent"), "the address is not theirs, and they stay outside"
    assert as_person("alice") == alice
    assert as_person("alice", "alice@uni.test") == alice


def test_a_staff_members_name_gives_no_rights_to_who_has_it_here(university):
    squatter = make_user("erik")
    assert as_person("erik").role == Role.STAFF
    squatter.refresh_from_db()
    assert squatter.role == Role.STUDENT


def sign_up(username, email):
    client = Client()
    answer = client.post(reverse("account_signup"), {"username": username, "email": email, "password1": "a long enough secret"})
    return answer


@pytest.mark.parametrize("username", ["alice", "ALICE", "barred", "twin1"])
def test_names_of_the_directory_are_taken(university, username):
    make_user("taken")
    held, taken = (sign_up(name, "new@elsewhere.test").context["form"].errors["username"] for name in (username, "taken"))
    assert held == taken
    assert User.objects.count() == 1


@pytest.mark.parametrize("email", ["alice@uni.test", "ALICE@uni.test", "lab@uni.test"])
def test_addresses_of_the_directory_are_taken(university, email):
    make_user("taken")
    answers = [sign_up("newcomer", address) for address in (email, "taken@uni.test", "new@elsewhere.test")]
    assert [answer.status_code for answer in answers] == [302] * 3 and len({answer.url for answer in answers}) == 1
    assert list(User.objects.exclude(username="taken").values_list("email", flat=True)) == ["new@elsewhere.test"]
    assert [message.to for message in mail.outbox] == [[email.lower()], ["taken@uni.test"], ["new@elsewhere.test"]]


def test_addresses_of_the_directory_are_taken_where_none_are_confirmed(university, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "optional"
    assert sign_up("newcomer", "alice@uni.test").context["form"].errors["email"]
    assert not User.objects.exists()


def test_whoever_has_an_account_gets_no_address_of_the_directory(university):
    client = Client()
    client.force_login(make_user("local"))
    answer = client.post(reverse("account_email"), {"action_add": "", "email": "alice@uni.test"})
    assert answer.context["form"].errors["email"] and not EmailAddress.objects.filter(email="alice@uni.test").exists()


def test_others_sign_up_and_in_as_ever(university):
    make_user("local")
    assert sign_up("newcomer", "new@elsewhere.test").status_code == 302
    assert signed_in("local", PASSWORD).username == "local"
    assert signed_in("local@uni.test", PASSWORD).username == "local"


def test_the_directory_is_told_no_password_of_others(configured, slapd, monkeypatch):
    configured(slapd)
    make_user("local")
    bound = []
    monkeypatch.setattr("accounts.directory.client.Directory._is_password", lambda self, connection, name, password: bound.append(password))
    assert signed_in("local", PASSWORD)
    assert len(bound) == 1 and PASSWORD not in bound


# -- which of two accounts ---------------------------------------------------------------------


def test_only_who_has_both_accounts_is_asked_which(university):
    local = make_user("alice")
    local.set_password(password_of("alice"))
    local.save()
    client, answer = post("alice", password_of("alice"))
    assert answer.status_code == 200 and 'name="account"' in answer.content.decode()
    assert not client.get(reverse("account_login")).wsgi_request.user.is_authenticated
    assert 'name="account"' not in post("alice", "wrong")[1].content.decode()
    assert signed_in("alice", password_of("alice"), account="local") == local
    of_directory = signed_in("alice", password_of("alice"), account="directory")
    assert of_directory != local and of_directory.identities.get().source == DIRECTORY
    assert signed_in("alice", password_of("alice"), account="neither") is None


def test_the_choice_opens_nothing_without_the_password(university):
    make_user("alice")
    assert signed_in("alice", PASSWORD, account="directory") is None
    assert signed_in("alice", password_of("alice"), account="local") is None
    assert signed_in("alice", "wrong", account="directory") is None


# -- guessing ----------------------------------------------------------------------------------


def signed_in_and_out(login, password):
    """A browser that knows this person."""
    client, answer = post(login, password)
    assert answer.status_code == 302
    client.post(reverse("account_logout"))
    return client


def said(client, login, password):
    answer = client.post(reverse("account_login"), {"login": login, "password": password})
    return "in" if answer.status_code == 302 else answer.content.decode()


@pytest.mark.parametrize("was_here", [True, False])
def test_who_has_a_namesake_in_the_directory_does_not_guess_on_in_new_browsers(university, settings, was_here):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_known_anywhere": "7/1h/key"}
    make_user("alice", email="mallory@else.test")
    own = signed_in_and_out("alice", password_of("alice")) if was_here else None
    for number in range(7):
        assert "not correct" in said(signed_in_and_out("alice", PASSWORD), "alice", f"guess {number}")
    mallorys = Client()
    assert said(mallorys, "mallory@else.test", PASSWORD) == "in"  # one that does not know them yet
    mallorys.post(reverse("account_logout"))
    assert "Too many" in said(mallorys, "alice", password_of("alice"))
    if own is not None:
        assert said(own, "alice", password_of("alice")) == "in"


def test_who_has_a_namesake_in_the_directory_does_not_guess_on_with_new_passwords(university):
    mallory = make_user("alice", email="mallory@else.test")
    as_person("alice")
    for _ in range(6):
        last = post("alice", "wrong")[1].content.decode()
    assert "Too many" in last
    client, key = Client(), app_settings.PASSWORD_RESET_TOKEN_GENERATOR().make_token(mallory)
    page = client.get(reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(mallory), "key": key}), follow=True)
    new = "a long enough secret"
    assert client.post(page.request["PATH_INFO"], {"password1": new, "password2": new}).status_code == 302
    assert "Too many" in said(client, "alice", password_of("alice"))
    assert said(client, "mallory@else.test", new) == "in"


def test_who_types_a_name_that_two_have_keeps_neither_out_of_their_own_browser(university):
    make_user("alice", email="mallory@else.test")
    own, local = signed_in_and_out("alice", password_of("alice")), signed_in_and_out("alice", PASSWORD)
    for _ in range(6):
        last = post("alice", "wrong")[1].content.decode()
    assert "Too many" in last
    for _ in range(6):
        last = said(local, "alice", "wrong")
    assert "Too many" in last
    assert said(own, "alice", password_of("alice")) == "in"


def test_all_names_that_the_directory_knows_of_somebody_are_one_account(active_directory):
    assert as_person("alice")
    for login in ("alice", "alice@ad.uni.test", "a.lias@uni.test", "ALICE@AD.UNI.TEST", "alice@uni.test"):
        assert "not correct" in post(login, "wrong")[1].content.decode()
        assert AuditEntry.objects.filter(action="user.sign_in_failed").latest("pk").data["reason"] == "wrong_password"
    for login in ("alice@ad.uni.test", "A.Lias@uni.test", "alice"):
        assert "Too many" in post(login, password_of("alice"))[1].content.decode(), login


@pytest.mark.parametrize("login", ["alice@ad.uni.test", "a.lias@uni.test"])
def test_who_types_another_name_of_somebody_keeps_them_out_of_no_browser_of_theirs(active_directory, settings, login):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login_failed_anywhere": "3/1h/key"}
    own = signed_in_and_out("alice", password_of("alice"))
    for _ in range(4):
        last = post(login, "wrong")[1].content.decode()
    assert "Too many" in last
    assert said(own, login, password_of("alice")) == "in"


def test_a_name_that_is_taken_from_somebody_is_theirs_no_more(active_directory):
    alice = as_person("alice")
    assert set(alice.identities.get().names.values_list("name", flat=True)) == {"alice", "alice@uni.test", "a.lias@uni.test", "alice@ad.uni.test"}
    active_directory.change(active_directory.dns["alice"], mail=["alice@uni.test"])
    directory_sync.sync()
    assert tried_by("a.lias@uni.test") == [] and tried_by("ALICE@ad.uni.test") == [alice]
    assert meant_by("a.lias@uni.test") is None and meant_by("ALICE@ad.uni.test") == alice


def test_a_direct_bind_tries_who_is_bound_with_the_name(configured, active_directory):
    attributes = Attributes(name="sAMAccountName", logins=("sAMAccountName",))
    active_directory.change(active_directory.dns["alice"], userPrincipalName="Al@AD.uni.test")
    configured(active_directory, attributes=attributes, direct_bind="{login}@ad.uni.test")
    assert Directory(settings.DIRECTORY).find("alice").logins == ("alice", "al")


def test_no_more_than_ten_names_of_somebody_are_kept(configured, still_slapd):
    configured(still_slapd)
    entry = directory.client().find("alice")
    alice = identities.settle_entry(replace(entry, logins=("alice", *(f"{number:02}@uni.test" for number in range(20)), "a" * 300)), settings.DIRECTORY)
    assert alice.identities.get().names.count() == 10 and tried_by("08@uni.test") == [alice]


def test_an_address_that_two_have_is_tried_on_both_and_recorded_of_neither(university):
    twins = [as_person("twin1"), as_person("twin2")]
    assert tried_by("lab@uni.test") == twins
    User.objects.update(email=""), EmailAddress.objects.all().delete()
    assert tried_by("lab@uni.test") == twins and meant_by("lab@uni.test") is None


def test_another_spelling_is_no_other_account(configured, still_slapd):
    for changes in ({}, {"direct_bind": f"uid={{login}},{tree.INFORMATICS}"}):
        cache.clear()
        configured(still_slapd, **changes)
        assert as_person("alice", "ａlice") is None
        assert AuditEntry.objects.filter(action="user.sign_in_failed").latest("pk").data["reason"] == "unknown_name"
        assert as_person("alice")
        for login in ("ａlice", "aｌice", "alⅰce", "alicｅ"):
            assert "not correct" in post(login, "wrong")[1].content.decode()
        for login in ("alice", "ALICE", "alicé", "al ice", "ａｌｉｃｅ"):
            assert "Too many" in post(login, password_of("alice"))[1].content.decode(), login


# -- the directory does not answer -------------------------------------------------------------


def test_a_black_hole_keeps_nobody_longer_than_three_seconds(configured, still_slapd):
    make_user("local")
    with black_hole() as hole:
        configured(still_slapd, hole)
        began = time.monotonic()
        assert signed_in("local", PASSWORD)
        assert time.monotonic() - began < 3 + BUSY
        began = time.monotonic()
        assert signed_in("local", PASSWORD)
        assert time.monotonic() - began < 1 + BUSY
        _, answer = post("alice", password_of("alice"))
        assert "does not answer" in answer.content.decode()


def test_people_come_back_with_the_directory(configured, slapd):
    configured(slapd)
    local, alice = make_user("local"), as_person("alice")
    slapd.stop()
    assert as_person("alice") is None
    assert signed_in("local", PASSWORD) == local
    slapd.start()
    assert as_person("alice") == alice


def test_what_a_silent_directory_could_not_judge_is_not_counted_as_wrong(configured, slapd):
    configured(slapd)
    make_user("local")
    slapd.stop()
    for _ in range(6):
        page = post("alice", password_of("alice"))[1].content.decode()
        assert page.count("does not answer") == 1 and page.index("does not answer") < page.index("not correct")
    for _ in range(6):
        last = post("local", "wrong")[1].content.decode()
    assert "Too many wrong passwords" in last  # those of the portal are judged all the same
    slapd.start()
    assert as_person("alice")


def test_the_record_says_that_the_directory_was_silent(configured, slapd):
    configured(slapd)
    make_user("local"), as_person("alice")
    gone = as_person("bob")
    User.objects.filter(pk=gone.pk).update(is_active=False)
    slapd.stop()
    for login, reason in [("alice", "directory_silent"), ("nobody-here", "directory_silent"), ("local", "wrong_password"), ("bob", "deactivated")]:
        post(login, "wrong")
        entry = AuditEntry.objects.filter(action="user.sign_in_failed").latest("pk")
        assert (bool(entry.object_name), entry.data) == (login != "nobody-here", {"reason": reason})


def test_while_it_is_down_nobody_signs_up_with_its_addresses(configured, slapd):
    configured(slapd)
    slapd.stop()
    for email in ("alice@uni.test", "alice@students.uni.test"):
        assert "cannot be checked" in str(sign_up("newcomer", email).context["form"].errors["email"])
    assert sign_up("newcomer", "new@elsewhere.test").status_code == 302
    assert sign_up("another", "new@notuni.test").status_code == 302


# -- its passwords are its own -----------------------------------------------------------------


def test_nobody_of_the_directory_gets_a_second_password(university):
    client, _ = post("alice", password_of("alice"))
    page = client.get(reverse("account_set_password")).content.decode()
    assert "changed there" in page and "password1" not in page
    answer = client.post(reverse("account_set_password"), {"password1": "a long enough secret", "password2": "a long enough secret"})
    assert not User.objects.get(username="alice").has_usable_password()
    assert answer.status_code == 200 and "another system" in answer.content.decode()


def test_a_mail_says_where_the_password_is_and_the_page_says_to_nobody_who_has_one(university):
    as_person("alice")
    make_user("local")
    answers = [Client().post(reverse("account_reset_password"), {"email": f"{name}@uni.test"}) for name in ("alice", "local", "nobody")]
    assert len({(answer.status_code, answer.url) for answer in answers}) == 1
    to_alice, to_local = mail.outbox[:2]
    assert to_alice.to == ["alice@uni.test"] and "changed there" in to_alice.body and "/reset/" not in to_alice.body
    assert "/reset/" in to_local.body


def test_not_even_a_right_link_gives_one(university):
    alice, client = as_person("alice"), Client()
    key = app_settings.PASSWORD_RESET_TOKEN_GENERATOR().make_token(alice)
    page = client.get(reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(alice), "key": key}), follow=True)
    answer = client.post(page.request["PATH_INFO"], {"password1": "a long enough secret", "password2": "a long enough secret"})
    assert "another system" in str(answer.context["form"].errors["password1"])
    alice.refresh_from_db()
    assert not alice.has_usable_password()


# -- where there is none -----------------------------------------------------------------------


def test_the_page_speaks_of_the_university_where_there_is_a_directory(configured, still_slapd):
    assert "university" not in Client().get(reverse("account_login")).content.decode()
    configured(still_slapd)
    assert "university" in Client().get(reverse("account_login")).content.decode()
    configured(still_slapd, password_url="https://password.uni.test/")
    assert 'href="https://password.uni.test/"' in Client().get(reverse("account_reset_password")).content.decode()
