"""Accounts of single sign-on that somebody connects with their own."""

import time

import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from django.test import Client
from django.urls import reverse

from accounts.models import DIRECTORY, AuditEntry, Identity, Notice, Role, User
from accounts.services import roles
from tests.factories import PASSWORD, make_user
from tests.sso.walk import LOGIN, at_provider, begin, is_signed_in, sign_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("oidc")]

PAGE = "/accounts/3rdparty/"


def signed_in(name="ada", **fields):
    client = Client()
    user = make_user(name, **fields)
    client.post(reverse("account_login"), {"login": name, "password": PASSWORD})
    return client, user


def a_while_ago(client):
    session = client.session
    for record in session[AUTHENTICATION_METHODS_SESSION_KEY]:
        record["at"] = time.time() - 3600
    session.save()


def connect(client, login="grace"):
    return client.get(at_provider(begin(client, process="connect"), login))


def said(client, answer):
    return client.get(answer.url).content.decode()


def test_a_connected_account_leads_to_ones_own(oidc):
    oidc.people["grace"]["groups"] = ["lecturers"]
    client, ada = signed_in()
    answer = connect(client)
    assert answer.url == PAGE and "You can now sign in with University Sign-on" in said(client, answer)
    assert sign_in(other := Client()).status_code == 302
    assert other.session["_auth_user_id"] == str(ada.pk)
    ada.refresh_from_db()
    assert (User.objects.count(), ada.role, ada.username) == (1, Role.TEACHER, "ada")
    assert AuditEntry.objects.get(action="identity.linked").actor == ada


def test_who_gets_another_way_in_reads_of_it_in_a_mail():
    client, ada = signed_in()
    connect(client)
    connect(client)
    told = Notice.objects.get()
    assert (told.user, told.to) == (ada, "ada@uni.test") and "University Sign-on" in told.subject
    assert "“grace” of University Sign-on" in told.body and "disconnect accounts" in told.body


def test_no_mail_goes_out_where_nothing_was_connected():
    sign_in(Client())
    connect(signed_in()[0])
    assert not Notice.objects.exists()


def test_it_is_asked_who_one_is_before(oidc):
    client, _ada = signed_in()
    a_while_ago(client)
    answer = client.post(LOGIN, {"process": "connect"})
    assert answer.url.startswith(reverse("account_reauthenticate"))
    again = client.post(answer.url, {"password": PASSWORD})
    assert oidc.issuer in again.content.decode()  # and it goes on by itself


def test_who_took_an_hour_at_the_provider_is_asked_again():
    client, _ada = signed_in()
    back = at_provider(begin(client, process="connect"))
    a_while_ago(client)
    assert "took too long" in said(client, client.get(back))
    assert not Identity.objects.exists()


def test_nobody_connects_what_is_somebody_elses():
    sign_in(Client())
    client, ada = signed_in()
    assert "signs somebody else in" in said(client, connect(client))
    assert Identity.objects.get().user != ada


def test_a_stranger_connects_nothing():
    answer = Client().post(LOGIN, {"process": "connect"})
    assert answer.url == reverse("account_login")


def test_an_answer_connects_only_in_the_browser_that_asked():
    """Nobody's account is connected by a link to somebody else's answer."""
    client, _ada = signed_in()
    eve, _ = signed_in("eve")
    back = at_provider(begin(eve, process="connect"))
    assert client.get(back).status_code == 401
    assert not Identity.objects.exists()


def test_a_connection_is_taken_away_with_the_role_it_gave(oidc):
    make_user(role=Role.STAFF)
    oidc.people["grace"]["groups"] = ["lab-staff"]
    client, ada = signed_in()
    connect(client)
    ada.refresh_from_db()
    assert ada.role == Role.STAFF
    assert "no longer connected" in said(client, client.post(PAGE, {"identity": Identity.objects.get().pk}))
    ada.refresh_from_db()
    assert (ada.role, ada.is_staff) == (Role.STUDENT, False)
    assert not Identity.objects.exists()
    assert AuditEntry.objects.get(action="identity.unlinked").data["uid"] == "g-1"


@pytest.fixture
def demoted(oidc):
    """The browser of ada, and her: made staff by an account that she connected, and a student by a superuser since."""
    oidc.people["grace"]["groups"] = ["lab-staff"]
    client, ada = signed_in()
    connect(client)
    roles.set_role(ada, Role.STUDENT, acting_user=make_user(role=Role.STAFF, is_superuser=True))
    return client, ada


def test_nobody_takes_a_role_back_by_connecting_the_account_anew(demoted):
    client, ada = demoted
    assert "Your role was changed" in said(client, client.post(PAGE, {"identity": Identity.objects.get().pk}))
    connect(client)
    ada.refresh_from_db()
    assert (ada.role, ada.is_staff) == (Role.STUDENT, False)


def test_nobody_takes_a_role_back_by_a_second_account(demoted):
    client, ada = demoted
    people = User.objects.count()
    client.post(PAGE, {"identity": Identity.objects.get().pk})
    sign_in(other := Client())
    assert other.session["_auth_user_id"] == str(ada.pk)
    ada.refresh_from_db()
    assert (User.objects.count(), ada.role) == (people, Role.STUDENT)


def test_what_staff_raised_since_is_disconnected_and_stays(oidc):
    oidc.people["grace"]["groups"] = ["lecturers"]
    client, ada = signed_in()
    connect(client)
    roles.set_role(ada, Role.STAFF, acting_user=make_user(role=Role.STAFF, is_superuser=True))
    client.post(PAGE, {"identity": Identity.objects.get().pk})
    ada.refresh_from_db()
    assert ada.role == Role.STAFF and not Identity.objects.exists()


def test_the_only_way_in_stays():
    sign_in(client := Client())
    assert "only way to sign in" in said(client, client.post(PAGE, {"identity": Identity.objects.get().pk}))
    assert is_signed_in(client) and Identity.objects.exists()


@pytest.mark.parametrize("chosen", ["", "0", "-1", "x", "9" * 40])
def test_only_ones_own_connection_is_taken_away(chosen):
    sign_in(Client())
    client, ada = signed_in()
    directory = Identity.objects.create(user=ada, source=DIRECTORY, uid="1")
    for pk in (chosen, Identity.objects.get(source="sso:uni").pk, directory.pk):
        assert "is not connected" in said(client, client.post(PAGE, {"identity": pk}))
    assert Identity.objects.count() == 2


def test_an_account_that_was_made_apart_stays_so_for_the_person_with_that_address():
    """The page that asks leads to the sign-in of before and on to this one."""
    client, _ada = signed_in(email="grace@uni.test")
    client.logout()
    page = client.get(sign_in(client).url).content.decode()
    assert f"{reverse('account_login')}?next={PAGE}" in page
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    connect(client)
    assert User.objects.count() == 1
