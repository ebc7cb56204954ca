"""People of a Proxmox VE realm sign in with their account there."""

import socket
import time

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.directory.config import DirectoryConfig
from accounts.models import AuditEntry, Identity, Role, RolePolicy, User
from accounts.policies import needs_second_factor
from accounts.services import directory, links
from machines.models import Cluster, RealmIdentity
from machines.providers.proxmox import client as client_module
from machines.providers.proxmox.breakers import Breakers
from machines.services import realms
from tests.factories import PASSWORD, make_cluster, make_user
from tests.proxmox.running import running_cluster
from tests.slapd import black_hole

pytestmark = pytest.mark.django_db
SECRET = "ada's own"


@pytest.fixture(scope="module")
def pve():
    with running_cluster() as pve:
        for who in ("labportal@pve", "labportal@pve!portal"):
            pve.control.grant(who, "/access/groups", ["Sys.Audit"])
        yield pve


@pytest.fixture(autouse=True)
def fresh(pve, monkeypatch):
    cache.clear()
    monkeypatch.setattr(client_module, "shared_breakers", Breakers())
    pve.control.add_user("ada@pve", SECRET, groups=["teachers"])
    yield
    pve.control.clear_faults()
    pve.control.settings(tfa=False)
    pve.control.remove_user("ada@pve")


@pytest.fixture
def cluster(pve) -> Cluster:
    return make_cluster("rack", kind="proxmox", config=with_login(pve), secret=pve.token_secret)


def with_login(pve, **config):
    return pve.config() | {"realm_login": True} | config


def sign_in(name="ada@pve", password=SECRET):
    client = Client()
    return client, client.post(reverse("account_login"), {"login": name, "password": password})


def signed_in(name="ada@pve", password=SECRET) -> User | None:
    client, _ = sign_in(name, password)
    return User.objects.filter(pk=client.session.get("_auth_user_id")).first()


def test_a_new_person_gets_an_account_without_a_password_of_ours(cluster):
    user = signed_in()
    assert (user.username, user.role, user.is_staff) == ("ada@pve", Role.STUDENT, False)
    assert not user.has_usable_password()
    assert RealmIdentity.objects.get().userid == "ada@pve"
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"user.from_realm", "user.signed_in"}
    assert signed_in() == user and User.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "password"), [("ada@pve", "wrong"), ("ada@nowhere", SECRET), ("eve@pve", SECRET), ("ada", SECRET), ("ada@pve!portal", SECRET)]
)
def test_whoever_is_not_known_gets_the_answer_of_a_wrong_password(cluster, name, password):
    _, answer = sign_in(name, password)
    local = sign_in("nobody", password)[1]
    assert answer.status_code == local.status_code == 200
    assert answer.context["form"].non_field_errors() == local.context["form"].non_field_errors()
    assert len(answer.context["form"].non_field_errors()) == 1
    assert not User.objects.exists()


def test_it_is_off_where_nobody_turned_it_on(cluster, pve):
    assert b"Proxmox account" in Client().get(reverse("account_login")).content
    Cluster.objects.update(config=pve.config())
    pve.control.reset_calls()
    assert signed_in() is None and not pve.control.calls()
    assert b"Proxmox account" not in Client().get(reverse("account_login")).content


def test_a_cluster_that_is_down_keeps_nobody_out_for_long(cluster, pve):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        unused_tcp_port = listener.getsockname()[1]
    make_user("bob")
    gone = [f"127.0.0.1:{unused_tcp_port}"]
    Cluster.objects.update(config=with_login(pve, endpoints=gone))
    began = time.monotonic()
    assert signed_in("bob", PASSWORD).username == "bob"
    assert signed_in() is None
    assert time.monotonic() - began < realms.BUDGET_SECONDS + 1


def test_a_cluster_that_hangs_is_not_waited_for(cluster, pve, monkeypatch):
    monkeypatch.setattr(realms, "BUDGET_SECONDS", 0.5)
    pve.control.fault(method="POST", path="/access/ticket", hang=True, times=5)
    began = time.monotonic()
    assert signed_in() is None
    assert time.monotonic() - began < 2


def test_staff_of_the_cluster_are_staff_until_they_are_not(cluster, pve):
    make_user(role=Role.STAFF)  # the last one would stay so
    Cluster.objects.update(config=with_login(pve, admin_group="admins"))
    assert signed_in().role == Role.STUDENT
    pve.control.remove_user("ada@pve")
    pve.control.add_user("ada@pve", SECRET, groups=["admins"])
    user = signed_in()
    assert user.role == Role.STAFF and user.is_staff
    Cluster.objects.update(config=with_login(pve, admin_group="deans"))  # of which she is none
    user = signed_in()
    assert user.role == Role.STUDENT and not user.is_staff
    Cluster.objects.update(config=with_login(pve, admin_users=["ada@pve"]))
    assert signed_in().role == Role.STAFF


def test_groups_that_cannot_be_read_change_nobodys_role(cluster, pve):
    make_user(role=Role.STAFF)
    Cluster.objects.update(config=with_login(pve, admin_group="teachers"))
    assert signed_in().role == Role.STAFF
    Cluster.objects.update(secret="00000000-0000-4000-8000-000000000000")
    assert signed_in().role == Role.STAFF
    Cluster.objects.update(config=with_login(pve))  # no group makes staff any more
    assert signed_in().role == Role.STUDENT


def test_what_the_portal_gave_the_cluster_does_not_take(cluster, pve):
    user = signed_in()
    User.objects.filter(pk=user.pk).update(role=Role.STAFF, is_staff=True)
    assert signed_in().role == Role.STAFF


@pytest.mark.parametrize("local", ["ada@pve", "ADA@pve"])
def test_an_account_of_the_portal_with_that_name_is_nobody_elses(cluster, local):
    theirs = make_user(local, role=Role.STAFF)
    user = signed_in()
    assert user != theirs and user.role == Role.STUDENT and user.username == f"ada@pve@{cluster.pk}"
    assert signed_in(local, PASSWORD) == theirs


def test_the_same_name_on_another_cluster_is_another_person(cluster, pve):
    first = signed_in()
    Cluster.objects.update(config=pve.config())
    make_cluster("other", kind="proxmox", config=with_login(pve), secret=pve.token_secret)
    assert signed_in() not in (None, first)


def tickets(pve):
    return pve.control.calls().get("POST /access/ticket", 0)


def test_whoever_was_here_before_is_asked_for_at_their_cluster_alone_and_stays_who_they_are(cluster, pve):
    second = make_cluster("second", kind="proxmox", config=with_login(pve), secret=pve.token_secret)
    theirs = make_user("ada@pve@second")
    RealmIdentity.objects.create(user=theirs, cluster=second, userid="ada@pve")
    pve.control.reset_calls()
    assert signed_in() == theirs and tickets(pve) == 1
    pve.control.reset_calls()
    assert signed_in(password="wrong") is None and tickets(pve) == 2
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        Cluster.objects.filter(pk=second.pk).update(config=with_login(pve, endpoints=[f"127.0.0.1:{listener.getsockname()[1]}"]))
        client, answer = sign_in()
    assert "does not answer at the moment" in str(answer.context["form"].errors)
    assert "_auth_user_id" not in client.session and User.objects.count() == 1


def test_nobody_signs_up_with_such_a_name(client):
    data = {"username": "ada@pve", "email": "eve@uni.test", "password1": "an admirable compiler"}
    assert "@" in str(client.post(reverse("account_signup"), data).context["form"].errors["username"])
    assert not User.objects.exists()


def test_no_second_password_outlives_the_account(cluster):
    client, _ = sign_in()
    client.post(reverse("account_set_password"), {"password1": "an admirable compiler", "password2": "an admirable compiler"})
    assert not User.objects.get().has_usable_password()


def connected(user) -> Identity:
    """With an account of single sign-on, as from the page of connected accounts."""
    links.link(user, "sso:university", "sub-1", name="ada", system="University")
    return user.identities.get()


def asks_for_a_password(client) -> bool:
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 301
    session.save()
    answer = client.get(reverse("mfa_activate_totp"))
    return answer.url.startswith(reverse("account_reauthenticate"))


def test_single_sign_on_beside_it_brings_no_second_factor(cluster, pve, settings):
    settings.SSO_BRINGS_SECOND_FACTOR = True
    RolePolicy.objects.create(role=Role.STUDENT, second_factor=True)
    user = signed_in()
    connected(user)
    assert needs_second_factor(user)  # the password of the realm opens the portal without
    Cluster.objects.update(config=pve.config())
    assert not needs_second_factor(user)


def test_single_sign_on_beside_it_is_disconnected_while_the_realm_lets_one_in(cluster, pve):
    user = signed_in()
    identity = connected(user)
    Cluster.objects.update(config=pve.config())
    with pytest.raises(links.LinkRefused, match="only way to sign in"):
        links.unlink(user, identity.pk, prefix="sso:")
    Cluster.objects.update(config=with_login(pve))
    links.unlink(user, identity.pk, prefix="sso:")
    assert not user.identities.exists() and signed_in() == user


@pytest.mark.parametrize("is_connected", [False, True])
@pytest.mark.parametrize("username", ["ada@pve", "ada@pve@rack"])  # the latter where the name was taken
def test_the_password_of_the_realm_is_asked_for_again(cluster, is_connected, username):
    user = make_user(username)
    user.set_unusable_password()
    user.save()
    RealmIdentity.objects.create(user=user, cluster=cluster, userid="ada@pve")
    if is_connected:
        connected(user)
    client, _ = sign_in()
    assert client.session["_auth_user_id"] == str(user.pk)
    assert asks_for_a_password(client)
    client.post(reverse("account_reauthenticate"), {"password": "wrong"})
    assert client.get(reverse("mfa_activate_totp")).status_code == 302
    client.post(reverse("account_reauthenticate"), {"password": SECRET})
    assert client.get(reverse("mfa_activate_totp")).status_code == 200


def test_no_e_mail_address_is_asked_for_there_whoever_has_it(cluster, pve):
    make_user("carol", email="carol@uni.test")
    pve.control.reset_calls()
    assert signed_in("carol@uni.test", "mistyped") is None and signed_in("nobody@uni.test", "mistyped") is None
    assert not pve.control.calls()


def test_a_realm_that_reads_like_a_domain_is_asked_for_where_the_cluster_is_known_to_have_it(cluster, pve):
    make_user("carol", email="carol@uni.test")
    Cluster.objects.update(config=with_login(pve, admin_users=["root@uni.test"]))
    for name in ("carol@uni.test", "nobody@uni.test"):
        pve.control.reset_calls()
        assert signed_in(name, "mistyped") is None and pve.control.calls(), name
    Cluster.objects.update(config=with_login(pve))
    RealmIdentity.objects.create(user=make_user("dan"), cluster=cluster, userid="dan@uni.test")
    pve.control.reset_calls()
    assert signed_in("eve@uni.test", "mistyped") is None and pve.control.calls()


def test_a_second_factor_is_told(cluster, pve):
    pve.control.settings(tfa=True)
    assert "second factor" in str(sign_in()[1].context["form"].errors)


def test_whoever_was_deactivated_stays_out(cluster):
    User.objects.filter(pk=signed_in().pk).update(is_active=False)
    assert signed_in() is None


@pytest.fixture
def silent_directory(settings):
    with black_hole() as hole:
        settings.DIRECTORY = DirectoryConfig(uris=(hole,), user_bases=("ou=people,dc=uni,dc=test",), start_tls=False, timeout=0.2)
        settings.AUTHENTICATION_BACKENDS = [directory.BACKEND, *settings.AUTHENTICATION_BACKENDS]
        yield


def failed() -> list[str]:
    return [entry.data["reason"] for entry in AuditEntry.objects.filter(action="user.sign_in_failed")]


@pytest.mark.parametrize("was_here", [True, False])
def test_nobody_guesses_without_end_while_the_directory_does_not_answer(cluster, pve, silent_directory, was_here):
    if was_here:
        assert signed_in()
    pve.control.reset_calls()
    for _ in range(8):
        last = sign_in(password="wrong")[1]
    assert b"Too many wrong passwords" in last.content
    assert tickets(pve) == 5
    assert failed() == ["too_often", *["wrong_password" if was_here else "unknown_name"] * 5]  # the newest first


def test_an_address_that_no_cluster_judges_waits_for_the_directory(cluster, silent_directory):
    for _ in range(8):
        last = sign_in("somebody@uni.test", password="right")[1]
    assert b"Too many" not in last.content
    assert failed() == ["directory_silent"] * 8


def test_failures_are_counted_and_passwords_appear_nowhere(cluster, caplog):
    caplog.set_level("DEBUG")
    for _ in range(5):
        sign_in(password="wr0ng-guess")
    assert "Wait five minutes" in str(sign_in()[1].context["form"].errors)
    assert "wr0ng-guess" not in caplog.text and SECRET not in caplog.text
    assert "wr0ng-guess" not in str(list(AuditEntry.objects.values()))
