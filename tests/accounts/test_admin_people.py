"""What staff do with people in the admin: found, changed, closed, opened, removed; and what they must not."""

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import DIRECTORY, ApiToken, AuditEntry, Identity, PasswordLetter, Role, RolePolicy, User
from accounts.services import directory, letters, people, role_rules, roles, tokens
from accounts.services.refusal import PersonRefused
from machines.lifecycle import State
from tests.classes.rows import enrol, make_class
from tests.factories import PASSWORD, make_machine, make_request, make_user

pytestmark = pytest.mark.django_db
LIST = "/admin/accounts/user/"


@pytest.fixture
def sam():
    return make_user("sam", role=Role.STAFF)


@pytest.fixture
def root():
    return make_user("root", role=Role.STAFF, is_superuser=True)


@pytest.fixture
def ada():
    return make_user("ada", first_name="Ada", last_name="Lovelace")


@pytest.fixture
def admin(client, sam):
    client.force_login(sam)
    return client


def text(response) -> str:
    return response.content.decode()


def page(user) -> str:
    return reverse("admin:accounts_user_change", args=[user.pk])


def button(user, word) -> str:
    return reverse("admin:accounts_user_verb", args=[user.pk, word])


def change(client, user, **values):
    data = {name: getattr(user, name) or "" for name in ("first_name", "last_name", "email", "keyboard", "role", *people.LIMITS)}
    return client.post(page(user), {**data, **values}, follow=True)


def told(response) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def come_from_the_directory(user):
    user.set_unusable_password()
    user.save()
    Identity.objects.create(user=user, source=DIRECTORY, uid="1", name=user.username)


def again(user) -> User:
    return User.objects.get(pk=user.pk)


def actions(user) -> list[str]:
    return list(AuditEntry.objects.filter(object_type="user", object_id=str(user.pk)).order_by("id").values_list("action", flat=True))


# -- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["ada", "Lovelace", "ada@uni.test", "second@uni.test", "al1815", "uid-of-ada", "Ada Lovelace"])
def test_people_are_found_by_what_one_knows_of_them(admin, ada, words):
    EmailAddress.objects.create(user=ada, email="second@uni.test", verified=True)
    Identity.objects.create(user=ada, source=DIRECTORY, uid="uid-of-ada", name="al1815")
    Identity.objects.create(user=ada, source="sso:keycloak", uid="another", name="ada")
    make_user("babbage")
    found = list(admin.get(LIST, {"q": words}).context["cl"].result_list)
    assert found == [ada]


def test_filters(admin, sam, ada):
    Identity.objects.create(user=ada, source=DIRECTORY, uid="1", missing_since=timezone.now())
    Authenticator.objects.create(user=ada, type="totp", data={})
    Authenticator.objects.create(user=sam, type="recovery_codes", data={})  # which stand in for none
    grace = make_user("grace", removal_asked_at=timezone.now())
    Identity.objects.create(user=grace, source="sso:keycloak", uid="2")

    def found(**query):
        return set(admin.get(LIST, query).context["cl"].result_list)

    assert found(source="directory") == found(gone="yes") == found(second_factor="yes") == {ada}
    assert found(source="sso") == found(removal="yes") == {grace}
    assert found(source="local") == {sam} and found(source="realm") == set()
    assert found(gone="no") == {sam, grace} == found(second_factor="no")
    assert found(source="nonsense") == {sam, ada, grace}


@pytest.mark.parametrize("query", ["role__exact=%00", "foo=%00", "email__regex=(", "email__iregex=a", "identities__name__regex=a"])
def test_what_a_database_refuses_narrows_no_list(admin, query):
    assert admin.get(f"{LIST}?{query}").status_code == 400


def test_the_list_costs_the_same_however_many(admin):
    def people_with_all(count):
        for _ in range(count):
            user = make_user()
            Identity.objects.create(user=user, source=DIRECTORY, uid=user.username)
            make_machine(owner=user)

    people_with_all(1)
    before = _queries_of(admin)
    people_with_all(48)
    assert _queries_of(admin) == before


def _queries_of(client) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(LIST).status_code == 200
    return len(captured)


def test_the_list_says_source_and_machines(admin, ada):
    Identity.objects.create(user=ada, source="sso:keycloak", uid="2")
    make_machine(owner=ada)
    make_machine(owner=ada, state=State.DESTROYED)
    row = next(user for user in admin.get(LIST).context["cl"].result_list if user == ada)
    assert row.machines_count == 1
    assert "keycloak" in text(admin.get(LIST))


# -- the page ------------------------------------------------------------------------------------


def test_the_page_shows_what_other_apps_know_and_no_secret(admin, sam, ada):
    make_machine("engine-1", owner=ada)
    make_request(ada, reason="Numbers.")
    lab_class = make_class("Analysis")
    enrol(lab_class, ada)
    token, secret = tokens.make(ada, name="laptop", scopes=[], expires_at=timezone.now() + timedelta(days=1))
    Authenticator.objects.create(user=ada, type="totp", data={"secret": "totp-secret"})
    roles.set_role(ada, Role.TEACHER, acting_user=sam)
    shown = text(admin.get(page(ada)))
    for expected in ("engine-1", "Analysis", "changed the role of Ada Lovelace", "TOTP", "1 API token", "confirmed"):
        assert expected in shown, expected
    for hidden in (secret, token.digest, "totp-secret", ada.password):
        assert hidden not in shown


def test_the_page_costs_the_same_however_much_there_is(admin, ada, django_assert_max_num_queries):
    for number in range(12):
        make_machine(owner=ada)
        make_request(ada)
        Identity.objects.create(user=ada, source="sso:keycloak", uid=str(number))
        enrol(make_class(f"Class {number}"), ada)
    with django_assert_max_num_queries(45):
        admin.get(page(ada))


def test_limits_names_and_address_are_changed_by_services(admin, sam, ada):
    change(admin, ada, first_name="Augusta", max_cores="8", email="augusta@uni.test")
    ada = again(ada)
    assert (ada.first_name, ada.max_cores, ada.max_machines, ada.email) == ("Augusta", 8, None, "augusta@uni.test")
    assert set(actions(ada)) == {"user.change", "user.limits", "user.address"}
    assert all(entry.actor == sam for entry in AuditEntry.objects.filter(action="user.limits"))
    address = EmailAddress.objects.get(user=ada)
    assert (address.email, address.primary, address.verified) == ("augusta@uni.test", True, False)


def test_nothing_that_is_not_offered_is_taken(admin, ada):
    before = ada.password
    change(admin, ada, username="eve", password="hers", is_superuser="on", is_staff="on", removal_asked_at="2026-01-01", is_active="")
    ada = again(ada)
    assert (ada.username, ada.password, ada.is_superuser, ada.is_staff, ada.is_active) == ("ada", before, False, False, True)


def test_who_loses_an_address_is_told_there(admin, ada):
    change(admin, ada, email="eve@uni.test")
    assert not mail.outbox, "the page waits for no mail server"
    assert letters.send_due() == 1
    (sent,) = mail.outbox
    assert sent.to == ["ada@uni.test"] and "your account, ada" in sent.body and "eve@uni.test" not in sent.body
    assert letters.send_due() == 0


def test_a_first_address_takes_none_away(sam, ada):
    people.set_address(ada, "", acting_user=sam)
    people.set_address(ada, "ada@uni.test", acting_user=sam)
    assert letters.send_due() == 1


def test_an_address_belongs_to_one_person(admin, ada):
    make_user("eve")
    assert "Somebody else has this address" in text(change(admin, ada, email="EVE@uni.test"))


def test_an_address_of_the_directory_is_left_to_it(admin, ada, monkeypatch):
    monkeypatch.setattr(directory, "holds_address", lambda email, *, of=None: email == "turing@uni.test")
    assert "The university directory has this address" in text(change(admin, ada, email="turing@uni.test"))
    assert again(ada).email == "ada@uni.test"


def test_the_directory_is_asked_while_nothing_is_locked(admin, ada, monkeypatch):
    """It may hang, and on SQLite a transaction keeps everybody else from writing."""
    asked, before = [], len(connection.savepoint_ids)
    monkeypatch.setattr(directory, "holds_address", lambda email, *, of=None: asked.append((email, len(connection.savepoint_ids) - before)))
    monkeypatch.setattr(directory, "holds_name", lambda name: asked.append((name, len(connection.savepoint_ids) - before)) or name == "turing")
    change(admin, ada, email="Augusta@uni.test", first_name="Augusta")
    change(admin, ada, email="augusta@uni.test", first_name="Ada")
    assert again(ada).first_name == "Ada" and asked == [("augusta@uni.test", 0)]
    admin.post(f"{LIST}add/", {"username": "turing", "email": "alan@uni.test", "role": "student"})
    assert asked[1:] == [("turing", 0), ("alan@uni.test", 0)] and not User.objects.filter(username="turing").exists()


def test_who_changes_a_role_locks_staff_before_the_person(admin, ada, monkeypatch):
    """In the order of all others who lock both, or two at once would wait for each other."""
    locked = []
    hold_staff, hold = roles.hold_staff, User.hold
    monkeypatch.setattr(roles, "hold_staff", lambda: locked.append("staff") or hold_staff())
    monkeypatch.setattr(User, "hold", lambda user: locked.append("person") or hold(user))
    change(admin, ada, role="teacher", first_name="Augusta")
    assert locked == ["staff", "person", "person"] and again(ada).role == Role.TEACHER


def test_what_another_system_says_is_not_changed_here(admin, ada):
    come_from_the_directory(ada)
    change(admin, ada, first_name="Eve", email="eve@uni.test")
    assert (again(ada).first_name, again(ada).email) == ("Ada", "ada@uni.test")


def test_control_characters_are_no_name(admin, ada):
    change(admin, ada, last_name="Love\u202elace")
    assert again(ada).last_name == "Lovelace"


def test_a_new_person_chooses_a_password_by_mail(admin, client):
    response = admin.post(
        f"{LIST}add/", {"username": "grace", "email": "Grace@uni.test", "first_name": "Grace", "last_name": "", "role": "teacher"}, follow=True
    )
    grace = User.objects.get(username="grace")
    assert response.redirect_chain[-1][0] == page(grace) and "gets a mail" in told(response)
    assert not grace.has_usable_password() and grace.role == Role.TEACHER and actions(grace)[0] == "user.made"
    assert letters.send_due() == 1
    (sent,) = mail.outbox
    assert sent.to == ["grace@uni.test"] and "Your user name is grace" in sent.body
    link = next(line for line in sent.body.splitlines() if "/password/reset/key/" in line)
    browser = Client()
    form = browser.get(link.removeprefix("http://localhost:8000"), follow=True)
    browser.post(form.redirect_chain[-1][0], {"password1": PASSWORD, "password2": PASSWORD})
    assert again(grace).check_password(PASSWORD)
    assert EmailAddress.objects.get(user=grace).verified  # the link went there
    assert letters.send_due() == 0


@pytest.mark.parametrize("name", ["ada", "ADA", "ada@pve", ""])
def test_a_new_person_needs_a_name_of_their_own(admin, ada, name):
    admin.post(f"{LIST}add/", {"username": name, "email": "new@uni.test", "role": "student"})
    assert User.objects.count() == 2


# -- what staff do -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["deactivate", "password-mail", "remove", "sign-out", "revoke-tokens", "reset-second-factor", "confirm-address", "keep"])
def test_a_button_asks_first_and_needs_a_click(admin, ada, word):
    Authenticator.objects.create(user=ada, type="totp", data={})
    before = User.objects.filter(pk=ada.pk).values().get()
    asked = admin.get(button(ada, word))
    assert asked.status_code == 200 and "Leave it as it is" in text(asked)
    assert User.objects.filter(pk=ada.pk).values().get() == before and not actions(ada)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="sam"))
    assert strict.post(button(ada, word)).status_code == 403


def test_a_closed_account_loses_sessions_and_tokens_and_keeps_machines(admin, ada):
    browser = Client()
    browser.post("/accounts/login/", {"login": "ada", "password": PASSWORD})
    assert browser.get("/").status_code == 200 and UserSession.objects.filter(user=ada).exists()
    tokens.make(ada, name="laptop", scopes=[], expires_at=timezone.now() + timedelta(days=1))
    machine = make_machine(owner=ada)
    assert "Ended: 1 session, 1 API token." in told(admin.post(button(ada, "deactivate"), follow=True))
    assert not again(ada).is_active and not ApiToken.objects.filter(revoked_at=None).exists()
    assert browser.get("/").status_code == 302
    machine.refresh_from_db()
    assert machine.owner == ada and "user.deactivate" in actions(ada)
    admin.post(button(ada, "reactivate"))
    assert again(ada).is_active and actions(ada)[-1] == "user.reactivate"
    assert browser.get("/").status_code == 302  # what ended stays ended


def test_what_staff_closed_no_sync_opens(sam, ada):
    identity = Identity.objects.create(user=ada, source=DIRECTORY, uid="1", closed_at=timezone.now())
    User.objects.filter(pk=ada.pk).update(is_active=False)
    people.deactivate(ada, acting_user=sam)
    identity.refresh_from_db()
    assert identity.closed_at is None


def test_reset_tokens_and_sessions(admin, ada):
    Authenticator.objects.create(user=ada, type="totp", data={})
    tokens.make(ada, name="laptop", scopes=[], expires_at=timezone.now() + timedelta(days=1))
    assert "1 API token is revoked" in told(admin.post(button(ada, "revoke-tokens"), follow=True))
    assert "no second factor any more" in told(admin.post(button(ada, "reset-second-factor"), follow=True))
    assert "signed out" in told(admin.post(button(ada, "sign-out"), follow=True))
    assert not Authenticator.objects.filter(user=ada).exists()


def test_a_mail_to_choose_a_password(admin, ada):
    assert "on its way" in told(admin.post(button(ada, "password-mail"), follow=True))
    admin.post(button(ada, "password-mail"))
    assert PasswordLetter.objects.count() == 1  # twice pressed is one mail
    assert letters.send_due() == 1 and "the people who run" in mail.outbox[0].body
    assert again(ada).check_password(PASSWORD)


def test_whoever_signs_in_elsewhere_gets_no_password_here(admin, ada):
    come_from_the_directory(ada)
    assert "account of another system" in told(admin.post(button(ada, "password-mail"), follow=True))
    assert not PasswordLetter.objects.exists()


def test_staff_type_no_password_where_mail_is_sent(admin, ada, settings):
    form = reverse("admin:auth_user_password_change", args=[ada.pk])
    assert admin.get(form).status_code == 403
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert form in text(admin.get(page(ada)))
    admin.post(form, {"password1": "another long one", "password2": "another long one", "usable_password": "true"})
    assert again(ada).check_password("another long one") and "user.password_given" in actions(ada)
    come_from_the_directory(ada)
    assert admin.get(form).status_code == 403


def test_who_connected_single_sign_on_keeps_a_password_and_an_address_here(admin, ada, settings):
    Identity.objects.create(user=ada, source="sso:uni", uid="1", name="al1815")
    assert "on its way" in told(admin.post(button(ada, "password-mail"), follow=True))
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert admin.get(reverse("admin:auth_user_password_change", args=[ada.pk])).status_code == 200
    change(admin, ada, email="augusta@uni.test")
    assert again(ada).email == "augusta@uni.test"


def test_whoever_comes_from_a_realm_gets_no_password_here_and_an_address_of_staff(admin, settings):
    ada = make_user("ada@pve")
    ada.set_unusable_password()
    ada.save()
    assert "account of another system" in told(admin.post(button(ada, "password-mail"), follow=True))
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert admin.get(reverse("admin:auth_user_password_change", args=[ada.pk])).status_code == 403
    change(admin, ada, email="augusta@uni.test")
    assert again(ada).email == "augusta@uni.test"


def test_a_mail_server_that_is_away_loses_no_mail(ada, monkeypatch):
    letters.post(ada)

    def away(*args, **kwargs):
        raise OSError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(letters, "send_mail", away)
        assert letters.send_due() == 0
    letter = PasswordLetter.objects.get()
    assert letter.problem == "no route" and letter.not_before > timezone.now()
    PasswordLetter.objects.update(not_before=timezone.now())
    assert letters.send_due() == 1


def test_confirming_an_address(admin, ada):
    EmailAddress.objects.filter(user=ada).update(verified=False)
    admin.post(button(ada, "confirm-address"))
    assert EmailAddress.objects.get(user=ada).verified
    eve = make_user("eve")
    EmailAddress.objects.filter(user=eve).update(verified=False, email="ada@uni.test")
    User.objects.filter(pk=eve.pk).update(email="ada@uni.test")
    assert "that of somebody else" in told(admin.post(button(eve, "confirm-address"), follow=True))


# -- removing ------------------------------------------------------------------------------------


def test_an_account_with_machines_or_classes_is_not_removed(admin, ada):
    machine = make_machine(owner=ada)
    roles.set_role(ada, Role.TEACHER, acting_user=None)
    lab_class = make_class("Analysis", teacher=ada)
    shown = text(admin.get(button(ada, "remove")))
    assert "these machines is decided with it: " in shown and "another teacher first: Analysis" in shown
    assert "Leave it as it is" not in shown
    admin.post(button(ada, "remove"))
    assert User.objects.filter(pk=ada.pk).exists()
    machine.state, lab_class.teacher = State.DESTROYED, make_user(role=Role.TEACHER)
    machine.save()
    lab_class.save()
    assert "is removed" in told(admin.post(button(ada, "remove"), follow=True))
    assert not User.objects.filter(pk=ada.pk).exists()


def test_the_record_keeps_the_name_of_who_is_gone(admin, sam, ada):
    make_request(ada)
    roles.set_role(ada, Role.TEACHER, acting_user=ada)
    people.remove(ada, acting_user=sam)
    assert AuditEntry.objects.get(action="user.role").actor_name == "ada"
    gone = AuditEntry.objects.get(action="user.remove")
    assert (gone.object_name, gone.actor) == ("ada", sam)
    assert admin.get("/admin/accounts/auditentry/").status_code == 200


def test_a_wish_to_be_removed_can_be_answered_with_no(admin, ada):
    User.objects.filter(pk=ada.pk).update(removal_asked_at=timezone.now())
    assert button(ada, "keep") in text(admin.get(page(ada)))
    admin.post(button(ada, "keep"))
    assert again(ada).removal_asked_at is None


# -- what staff must not -------------------------------------------------------------------------

EACH = [
    lambda user, by: people.deactivate(user, acting_user=by),
    lambda user, by: people.reactivate(user, acting_user=by),
    lambda user, by: people.remove(user, acting_user=by),
    lambda user, by: people.set_address(user, "mine@uni.test", acting_user=by),
    lambda user, by: people.confirm_address(user, acting_user=by),
    lambda user, by: people.send_password_mail(user, acting_user=by),
    lambda user, by: people.change(user, acting_user=by, first_name="Eve"),
    lambda user, by: people.set_limits(user, acting_user=by, max_cores=1),
    lambda user, by: people.revoke_tokens(user, acting_user=by),
    lambda user, by: people.end_sessions(user, acting_user=by),
    lambda user, by: people.set_superuser(user, False, acting_user=by),
    lambda user, by: people.keep(user, acting_user=by),
]


@pytest.mark.parametrize("do", EACH)
def test_staff_touch_no_superuser_and_others_nobody(do, sam, root, ada):
    with pytest.raises(PersonRefused):
        do(root, sam)
    with pytest.raises(PersonRefused):
        do(ada, make_user(role=Role.TEACHER))


def test_the_pages_of_a_superuser_are_closed_to_staff(admin, root):
    for word in ("deactivate", "remove", "password-mail", "reset-second-factor"):
        assert admin.get(button(root, word)).status_code == admin.post(button(root, word)).status_code == 403
    assert "/ask/" not in text(admin.get(page(root)))


def test_by_the_address_of_staff_one_becomes_staff(admin, sam):
    kim = make_user("kim", role=Role.STAFF)
    change(admin, kim, email="mine@uni.test")
    assert again(kim).email == "kim@uni.test"
    with pytest.raises(PersonRefused, match="Only a superuser"):
        people.confirm_address(kim, acting_user=sam)
    people.deactivate(kim, acting_user=sam)
    with pytest.raises(PersonRefused, match="Only a superuser"):  # nor while the account is closed, to open it again
        people.set_address(kim, "mine@uni.test", acting_user=sam)


def test_ones_own_way_in_is_not_changed_without_being_asked_who_one_is(client, settings, root):
    """A session may be old, or somebody else's by now: the pages of the account ask for the password."""
    client.force_login(root)
    change(client, root, email="mine@uni.test")
    assert again(root).email == "root@uni.test"
    EmailAddress.objects.filter(user=root).update(verified=False)
    assert "pages of your account" in told(client.post(button(root, "confirm-address"), follow=True))
    assert not EmailAddress.objects.get(user=root).verified
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    form = reverse("admin:auth_user_password_change", args=[root.pk])
    assert form not in text(client.get(page(root)))
    assert client.post(form, {"password1": "another long one", "password2": "another long one", "usable_password": "true"}).status_code == 403


def test_staff_make_nobody_staff(sam, root):
    with pytest.raises(PersonRefused, match="Only a superuser"):
        people.make([User(username="kim", role=Role.STAFF)], acting_user=sam)
    people.make([User(username="kim", role=Role.STAFF)], acting_user=root)
    assert User.objects.get(username="kim").is_staff


def test_nobody_closes_or_demotes_themselves(sam, root):
    for do in (people.deactivate, people.remove):
        with pytest.raises(PersonRefused, match="your own account"):
            do(sam, acting_user=sam)
    with pytest.raises(PersonRefused):
        people.set_superuser(root, False, acting_user=root)


def test_the_last_who_runs_the_portal_stays(sam, root):
    assert roles.indispensable(root) and not roles.indispensable(sam)
    User.objects.filter(pk=root.pk).update(is_active=False)
    assert roles.indispensable(sam)
    with pytest.raises(roles.RoleRefused, match="last who runs"):
        roles.set_role(sam, Role.STUDENT, acting_user=None)
    assert again(sam).is_staff


def test_superusers_make_superusers_and_take_it_back(client, root, ada):
    client.force_login(root)
    change(client, ada, is_superuser="on")
    ada = again(ada)
    assert ada.is_superuser and ada.role == Role.STAFF and ada.is_staff
    change(client, ada, role="staff")
    assert not again(ada).is_superuser
    assert actions(ada).count("user.superuser") == 2


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_nobody_else_gets_in(client, ada, role):
    client.force_login(make_user(role=role))
    for url in (page(ada), button(ada, "deactivate"), reverse("admin:accounts_user_import"), reverse("admin:accounts_rolepolicy_changelist")):
        assert client.get(url).status_code == client.post(url).status_code == 302


# -- many ----------------------------------------------------------------------------------------


def many(client, action, *users, **data):
    return client.post(LIST, {"action": action, "_selected_action": [user.pk for user in users], **data}, follow=True)


def test_many_get_a_role_and_refusals_are_told(admin, root, ada):
    kim = make_user("kim")
    asked = many(admin, "give_role", ada, kim, root)
    assert "Give a role" in text(asked) and not actions(ada)
    done = told(many(admin, "give_role", ada, kim, root, do="1", role="teacher"))
    assert "Done for 2 people" in done and "root is a superuser" in done
    assert {again(ada).role, again(kim).role} == {"teacher"} and again(root).role == "staff"


def test_many_accounts_are_closed_and_ones_own_is_not(admin, sam, ada):
    done = told(many(admin, "deactivate_many", ada, sam, do="1"))
    assert "Done for 1 person" in done and "your own account" in done
    assert not again(ada).is_active and again(sam).is_active


# -- who asked to be removed ---------------------------------------------------------------------


def test_staff_see_how_many_ask_to_be_removed(admin, django_assert_num_queries):
    with CaptureQueriesContext(connection) as before:
        assert "to be removed" not in admin.get(reverse("admin:index")).content.decode()
    queries = len(before)
    make_user("ada", removal_asked_at=timezone.now())
    assert "1 person asks to be removed" in admin.get(reverse("admin:index")).content.decode()
    make_user("bob", removal_asked_at=timezone.now())
    with django_assert_num_queries(queries):
        text = admin.get(reverse("admin:index")).content.decode()
    assert "2 people ask to be removed" in text and f'href="{reverse("admin:accounts_user_changelist")}?removal=yes"' in text


# -- rules of roles ------------------------------------------------------------------------------


def test_rules_of_a_role(admin, sam):
    add = reverse("admin:accounts_rolepolicy_add")
    response = admin.post(add, {"role": "staff", "second_factor": "on", "max_cores": "16"}, follow=True)
    rules = RolePolicy.objects.get()
    assert (rules.role, rules.second_factor, rules.max_cores) == ("staff", True, 16)
    assert response.redirect_chain
    assert AuditEntry.objects.get(action="role.rules").data == {"before": None, "after": {"role": "staff", "second_factor": True, "max_cores": 16}}
    role_rules.save(RolePolicy(pk=rules.pk, role="staff", max_cores=8), acting_user=sam, changed=["max_cores"])
    assert AuditEntry.objects.filter(action="role.rules").latest("id").data == {"before": {"max_cores": 16}, "after": {"max_cores": 8}}
    assert not AuditEntry.objects.filter(action__startswith="admin.").exists()


def test_who_asks_staff_for_a_second_factor_without_one_is_led_to_set_it_up(admin):
    admin.post(reverse("admin:accounts_rolepolicy_add"), {"role": "staff", "second_factor": "on"})
    assert admin.get(LIST).url == reverse("mfa_index")
    assert "You have no second factor yourself" in text(admin.get(reverse("mfa_index"), follow=True))


def test_each_role_has_one_row_that_stays(admin, sam):
    for role in Role.values:
        role_rules.save(RolePolicy(role=role), acting_user=sam, changed=["role"])
    assert admin.get(reverse("admin:accounts_rolepolicy_add")).status_code == 403
    rules = RolePolicy.objects.get(role="student")
    assert admin.get(reverse("admin:accounts_rolepolicy_delete", args=[rules.pk])).status_code == 403
    admin.post(reverse("admin:accounts_rolepolicy_change", args=[rules.pk]), {"role": "staff", "max_machines": "3"})
    rules.refresh_from_db()
    assert (rules.role, rules.max_machines) == ("student", 3)


@pytest.mark.parametrize("model", ["mfa/authenticator", "usersessions/usersession", "account/emailaddress", "auth/group"])
def test_rows_by_which_one_becomes_somebody_else_are_not_in_the_admin(client, root, model):
    client.force_login(root)
    assert client.get(f"/admin/{model}/").status_code == client.get(f"/admin/{model}/add/").status_code == 404


def test_more_people_than_a_page_holds_are_not_chosen_at_once(admin, ada, monkeypatch):
    monkeypatch.setattr("accounts.admin_people._MOST_AT_ONCE", 1)
    eve = make_user()
    assert "at most 1 people at once" in told(many(admin, "deactivate_many", ada, eve))
    assert "at most 1 people at once" in told(many(admin, "deactivate_many", ada, eve, do="1", select_across="1"))
    assert "at most 1 people at once" in told(many(admin, "give_role", ada, eve, do="1", role="teacher", select_across="1"))
    assert again(ada).is_active and again(ada).role == Role.STUDENT
