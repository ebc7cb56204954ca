"""From an account outside the portal to a person."""

import threading
from importlib import import_module

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import DIRECTORY, AuditEntry, Identity, Role, User
from accounts.services import identities, links, people, roles
from accounts.services.identities import settle
from accounts.signals import groups_read
from tests.factories import make_user

pytestmark = pytest.mark.django_db

UID = "6d1f0f2e-0001"
PEOPLE = 4  # at the same moment


def come(uid=UID, name="bob", *, role=None, source=DIRECTORY, **told):
    return settle(source, uid, name=name, role=role, **told)


def addresses(user):
    return set(EmailAddress.objects.filter(user=user).values_list("email", "verified", "primary"))


def test_a_person_is_made_once_and_then_known_by_the_stable_id():
    bob = come(email="Bob@Uni.test", first_name="Bob", last_name="Builder", groups=["cn=b", "cn=a"], dn="uid=bob,dc=uni")
    assert (bob.username, bob.first_name, bob.last_name, bob.email, bob.role) == ("bob", "Bob", "Builder", "bob@uni.test", Role.STUDENT)
    assert not bob.has_usable_password() and addresses(bob) == {("bob@uni.test", True, True)}
    identity = bob.identities.get()
    assert (identity.dn, identity.groups, identity.missing_since) == ("uid=bob,dc=uni", ["cn=a", "cn=b"], None) and identity.seen_at
    assert come(email="bob@uni.test") == bob and User.objects.count() == 1
    assert AuditEntry.objects.filter(action="user.from_outside").count() == 1


def test_neither_a_name_nor_an_address_leads_to_an_account_that_is_there():
    """Somebody signed up as bob, with Bob's address, and waits for the real Bob."""
    squatter = make_user("Bob", email="bob@uni.test")
    EmailAddress.objects.update(verified=False)
    bob = come(email="bob@uni.test", role=Role.STAFF, groups=["cn=admins"])
    assert bob != squatter and bob.username == "bob@directory"
    squatter.refresh_from_db()
    assert (squatter.role, squatter.is_staff, squatter.identities.count()) == (Role.STUDENT, False, 0)
    assert addresses(bob) == {("bob@uni.test", True, True)}, "what is merely claimed keeps nobody from their own address"


@pytest.mark.parametrize("held", ["confirmed", "given by staff", "given anew by staff", "on the command line"])
def test_an_address_that_is_somebody_elses_is_not_taken(held):
    """Whether they have been there to confirm it or not."""
    sam, root = make_user(role=Role.STAFF), make_user("root", email="" if "given" in held else "boss@uni.test")
    if held == "given by staff":
        root = User(username="boss", email="Boss@Uni.test")
        people.make([root], acting_user=sam)
    elif held == "given anew by staff":
        people.set_address(root, "boss@uni.test", acting_user=sam)
    elif held == "on the command line":
        EmailAddress.objects.filter(user=root).delete()
    for _ in range(2):
        bob = come(email="boss@uni.test")
    assert bob != root and bob.email == "" and not addresses(bob)
    assert AuditEntry.objects.get(action="user.address", outcome="taken").data["email"] == "boss@uni.test"


def test_a_claimed_address_is_not_a_confirmed_one():
    bob = come(source="sso:keycloak", email="bob@uni.test", email_verified=False)
    assert addresses(bob) == {("bob@uni.test", False, True)}
    EmailAddress.objects.filter(user=bob).update(verified=True)  # by the link that was mailed
    come(source="sso:keycloak", email="bob@uni.test", email_verified=False)
    assert addresses(bob) == {("bob@uni.test", True, True)}


def test_a_claim_does_not_stand_beside_that_of_somebody_else():
    make_user("other", email="bob@uni.test")
    EmailAddress.objects.update(verified=False)
    assert not addresses(come(source="sso:keycloak", email="bob@uni.test", email_verified=False))


def test_a_new_address_takes_the_place_of_the_one_told_before_and_of_no_other():
    bob = come(email="bob@uni.test")
    EmailAddress.objects.create(user=bob, email="bob@home.test", verified=True)
    bob = come(email="b.builder@uni.test")
    assert addresses(bob) == {("b.builder@uni.test", True, True), ("bob@home.test", True, False)} and bob.email == "b.builder@uni.test"
    EmailAddress.objects.get(email="bob@home.test").set_as_primary()
    bob = come(email="bob@uni.test")
    assert addresses(bob) == {("bob@uni.test", True, False), ("bob@home.test", True, True)} and bob.email == "bob@home.test"
    come(email="")
    assert bob.emailaddress_set.count() == 2


@pytest.mark.parametrize("told", ["no address", "two@x.test, b@y.test", "x" * 250 + "@uni.test", "a@uni.test\r\nBcc: all@uni.test"])
def test_what_is_no_address_is_none(told):
    assert not addresses(come(email=told))


@pytest.mark.parametrize(
    ("told", "username"),
    [
        ("Bob", "bob"),
        ("bob@uni.test", "bob"),
        ("UNI\\bob", "unibob"),
        ("bob builder", "bobbuilder"),
        ("<script>", "script"),
        ("\u202ebob\x00", "bob"),
        ("日本", "日本"),
        ("@", "person"),
        ("", "person"),
        ("b" * 300, "b" * 70),
    ],
)
def test_a_user_name_is_made_of_any_name(told, username):
    user = come(name=told)
    assert user.username == username
    user.full_clean(exclude=["password", "email", "first_name", "last_name"])


@pytest.mark.parametrize("uid", ["", "\x00", "a\x00b", "a\nb", "x" * 256])
def test_what_is_no_id_is_nobodys(uid):
    """Everybody without one would be the same person."""
    assert come(uid=uid) is None and not User.objects.exists()


def test_no_letter_that_a_database_refuses_is_kept():
    bob = come(name="b\x00ob", dn="cn=b\x00ob", groups=["cn=a\x00", "cn=a"], first_name="B\x00ob", email="b\x00ob@uni.test")
    identity = bob.identities.get()
    assert (identity.name, identity.dn, identity.groups, bob.first_name, bob.email) == ("bob", "cn=bob", ["cn=a"], "Bob", "")


def test_a_second_of_the_same_name_gets_another():
    names = [come(uid=f"{number}", name="bob").username for number in range(4)]
    names += [come(uid="x", name="bob@other.test", source="sso:keycloak").username]
    assert names == ["bob", "bob@directory", "bob-2@directory", "bob-3@directory", "bob@keycloak"]


def test_one_id_of_two_systems_is_two_people():
    assert come(source=DIRECTORY) != come(source="sso:keycloak")


def test_where_no_name_is_free_nobody_gets_in(monkeypatch, caplog):
    monkeypatch.setattr(identities, "_NAMES_TRIED", 2)
    for uid in "12":
        come(uid=uid)
    assert come(uid="3") is None and "no user name is free" in caplog.text


def test_who_is_renamed_stays_the_person_and_keeps_the_user_name():
    """Machines, logs and their own habits know the user name; the identity shows what is typed now."""
    bob = come(name="bob", last_name="Builder")
    again = come(name="bmason", last_name="Mason", dn="uid=bmason,ou=elsewhere")
    assert again == bob and (again.username, again.last_name) == ("bob", "Mason")
    identity = Identity.objects.get()
    assert (identity.name, identity.dn) == ("bmason", "uid=bmason,ou=elsewhere")
    entry = AuditEntry.objects.get(action="identity.renamed")
    assert (entry.data["before"], entry.data["after"]) == ("bob", "bmason")
    assert come(uid="new", name="bob") != bob


def test_names_are_plain_and_short_and_what_is_not_told_stays():
    bob = come(first_name="B\u202eob\n" + "x" * 300, last_name="Builder")
    assert len(bob.first_name) == 150 and bob.first_name.startswith("Bobx")
    assert come(last_name="").last_name == "Builder"


def test_who_was_deactivated_stays_outside():
    bob = come()
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert come(role=Role.STAFF, last_name="New") is None
    bob.refresh_from_db()
    assert not bob.is_active and (bob.role, bob.last_name) == (Role.STUDENT, "")


def test_whom_the_directory_closed_comes_back_with_it():
    bob = come()
    User.objects.filter(pk=bob.pk).update(is_active=False)
    Identity.objects.update(missing_since="2026-01-01T00:00Z", closed_at="2026-01-02T00:00Z")
    assert come() == bob
    identity = Identity.objects.get()
    assert identity.user.is_active and identity.missing_since is None and identity.closed_at is None
    assert AuditEntry.objects.filter(action="user.came_back").count() == 1


# -- roles -------------------------------------------------------------------------------------


@pytest.fixture
def others():
    """Somebody else runs the portal."""
    make_user(role=Role.STAFF)


def role_after(*given):
    for role in given:
        user = come(role=role)
    user.refresh_from_db()
    assert user.is_staff == (user.role == Role.STAFF)
    return user.role


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ([Role.TEACHER], Role.TEACHER),
        ([Role.STAFF], Role.STAFF),
        ([Role.TEACHER, Role.STAFF], Role.STAFF),
        ([Role.STAFF, Role.TEACHER], Role.TEACHER),
        ([Role.STAFF, None], Role.STUDENT),
        ([None, Role.TEACHER], Role.TEACHER),
        ([Role.TEACHER, None, None], Role.STUDENT),
    ],
)
def test_the_role_follows_the_groups(given, role, others):
    assert role_after(*given) == role


def test_what_was_not_given_is_not_taken():
    bob = come()
    roles.set_role(bob, Role.TEACHER, acting_user=None)
    assert role_after(None) == Role.TEACHER


def test_what_staff_decided_since_stays_until_the_groups_change(others):
    bob = come(role=Role.STUDENT)
    roles.set_role(bob, Role.TEACHER, acting_user=None)  # a student who teaches a course
    assert role_after(Role.STUDENT) == Role.TEACHER
    assert role_after(Role.STAFF) == Role.STAFF
    roles.set_role(bob, Role.STUDENT, acting_user=None)  # taken away in the portal
    assert role_after(Role.STAFF) == Role.STUDENT
    assert role_after(None) == Role.STUDENT


def test_groups_lower_only_from_what_they_gave(others):
    """Staff who connect an account that the university has as a student's stay staff."""
    bob = come()
    roles.set_role(bob, Role.STAFF, acting_user=None)
    assert role_after(Role.STUDENT, Role.TEACHER, None) == Role.STAFF


def test_a_superuser_is_never_demoted():
    bob = come(role=Role.STAFF)
    User.objects.filter(pk=bob.pk).update(is_superuser=True)
    for role in (None, Role.STUDENT, Role.TEACHER):
        assert role_after(role) == Role.STAFF


def test_the_last_who_runs_the_portal_does_not_stop_by_a_group():
    assert role_after(Role.STAFF, None) == Role.STAFF
    make_user(role=Role.STAFF)
    assert role_after(None) == Role.STUDENT, "as soon as there is somebody else"


SSO = "sso:keycloak"
TELLING = st.tuples(st.sampled_from([DIRECTORY, SSO]), st.sampled_from([*Role, None, "disconnected"]))


@pytest.fixture
def root():
    return make_user("root", role=Role.STAFF, is_superuser=True)


def tell(user, source, role):
    """What one of two systems says of `user` when they come by it, or that they disconnect it."""
    if role != "disconnected":
        links.link(user, source, f"{user.pk}", name="ada", system=source)
        settle(source, f"{user.pk}", name="ada", role=role)
    elif identity := user.identities.filter(source=source).first():
        links.unlink(user, identity.pk, prefix=source)
    user.refresh_from_db()
    assert user.is_staff == (user.role == Role.STAFF)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=st.sampled_from(list(Role)), told=st.lists(TELLING, max_size=6))
@example(own=Role.STUDENT, told=[(DIRECTORY, Role.TEACHER), (SSO, Role.TEACHER), (SSO, "disconnected"), (DIRECTORY, Role.TEACHER)])
@example(own=Role.STUDENT, told=[(DIRECTORY, Role.TEACHER), (SSO, Role.TEACHER), (DIRECTORY, None), (SSO, None)])
@example(own=Role.TEACHER, told=[(SSO, Role.TEACHER), (SSO, None)])
@example(own=Role.TEACHER, told=[(SSO, Role.STAFF), (SSO, None)])
def test_the_role_is_the_highest_of_ones_own_and_of_what_each_system_gives(own, told, root):
    ada = make_user()
    roles.set_role(ada, own, acting_user=root)
    says = {}
    for source, role in told:
        tell(ada, source, role)
        says[source] = role if role in Role.values else Role.STUDENT
        assert ada.role == max([own, *says.values()], key=Role.values.index)


def test_what_staff_decided_stays_whatever_another_system_stops_to_say(root):
    ada = make_user()
    for source in (DIRECTORY, SSO):
        tell(ada, source, Role.TEACHER)
    roles.set_role(ada, Role.STUDENT, acting_user=root)
    tell(ada, SSO, None)
    assert ada.role == Role.STUDENT, "the directory still says teacher, as it did when staff decided"
    roles.set_role(ada, Role.TEACHER, acting_user=root)
    tell(ada, DIRECTORY, None)
    assert ada.role == Role.TEACHER


def test_an_account_that_is_closed_gives_no_role():
    ada = make_user()
    for source in (DIRECTORY, SSO):
        tell(ada, source, Role.TEACHER)
    ada.identities.filter(source=DIRECTORY).update(closed_at="2026-01-01T00:00Z")
    tell(ada, SSO, None)
    assert ada.role == Role.STUDENT


def test_the_update_takes_roles_that_a_system_gives_for_given_by_it():
    ada, tea = make_user(role=Role.TEACHER), make_user(role=Role.TEACHER)
    for user, role in ((ada, Role.TEACHER), (tea, Role.STUDENT)):
        Identity.objects.create(user=user, source=SSO, uid=f"{user.pk}", role_given=role)
    import_module("accounts.migrations.0015_roles_that_stay").give_own_roles(apps, None)
    for user in (ada, tea):
        tell(user, SSO, None)
    assert (ada.role, tea.role) == (Role.STUDENT, Role.TEACHER)


# -- groups ------------------------------------------------------------------------------------


@pytest.fixture
def heard():
    said = []

    def listen(*, user, groups, **_):
        assert not connection.savepoint_ids, "no row of the person is held"
        said.append((user.username, set(groups)))

    groups_read.connect(listen)
    yield said
    groups_read.disconnect(listen)


def test_the_groups_are_told_those_of_all_identities_together(heard):
    bob = come(groups=["cn=a"])
    Identity.objects.create(user=bob, source="sso:keycloak", uid="1", groups=["staff", "cn=a"])
    come(groups=["cn=b"])
    assert heard == [("bob", {"cn=a"}), ("bob", {"cn=b", "staff", "cn=a"})]


def test_a_listener_that_fails_keeps_nobody_out(heard, caplog):
    def fail(**_):
        raise RuntimeError("no such class")

    groups_read.connect(fail)
    try:
        assert come().is_active
    finally:
        groups_read.disconnect(fail)
    assert "no such class" in caplog.text


# -- at the same moment ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_first_sign_ins_at_the_same_moment_make_one_person(monkeypatch):
    """All of them have seen neither the identity nor the name when the first makes both."""
    gate, looked = threading.Barrier(PEOPLE), threading.local()

    class Late:
        """`transaction` of the module: each waits at its first lock until all came there."""

        @staticmethod
        def atomic():
            if not hasattr(looked, "once"):
                looked.once = True
                gate.wait(30)
            return transaction.atomic()

    made, failed = [], []

    def sign_in():
        try:
            made.append(come(email="bob@uni.test", role=Role.TEACHER))
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    monkeypatch.setattr(identities, "transaction", Late)
    threads = [threading.Thread(target=sign_in) for _ in range(PEOPLE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and len(made) == PEOPLE and len(set(made)) == 1
    assert User.objects.count() == Identity.objects.count() == EmailAddress.objects.count() == 1
