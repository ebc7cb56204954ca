"""Signing in with OpenID Connect, at a provider that answers over HTTP and signs its tokens."""

import time

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Identity, Role, User
from accounts.services import people
from accounts.signals import groups_read
from tests.factories import PASSWORD, make_user
from tests.sso.provider import CLIENT_SECRET
from tests.sso.walk import LOGIN, asked_for, at_provider, begin, is_signed_in, sign_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("oidc")]


def refused(response, words):
    """A page with a sentence, and nobody signed in by it."""
    assert response.status_code == 401
    text = response.content.decode()
    assert words in text and "Traceback" not in text and CLIENT_SECRET not in text
    assert not is_signed_in(response.client)
    return True


# -- the way there and back ----------------------------------------------------------------------


def test_the_sign_in_page_has_a_button_for_what_is_configured_and_for_nothing_else(client, settings):
    assert "Sign in with University Sign-on" in client.get(reverse("account_login")).content.decode()
    settings.SOCIALACCOUNT_PROVIDERS = {}
    assert "University" not in client.get(reverse("account_login")).content.decode()
    assert client.post(LOGIN).status_code == 404


def test_whoever_signs_in_there_is_signed_in_here(client):
    assert sign_in(client).url == "/"
    user = User.objects.get()
    assert (user.username, user.first_name, user.last_name, user.role) == ("grace", "Grace", "Hopper", Role.STUDENT)
    assert not user.has_usable_password()
    assert EmailAddress.objects.get(user=user).verified
    identity = Identity.objects.get()
    assert (identity.user, identity.source, identity.uid, identity.name) == (user, "sso:uni", "g-1", "grace")
    assert client.get("/").status_code == 200


def test_the_second_time_it_is_the_same_person_whatever_they_are_called_now(client, oidc):
    sign_in(client)
    oidc.people["grace"] |= {"preferred_username": "hopper", "family_name": "Murray", "email": "murray@uni.test"}
    sign_in(again := Client())
    user = User.objects.get()
    assert (user.username, user.last_name, user.email) == ("grace", "Murray", "murray@uni.test")
    assert is_signed_in(again)


def test_it_is_asked_for_with_a_state_a_nonce_and_pkce(client):
    asked = asked_for(begin(client))
    assert len(asked["state"]) >= 16 and len(asked["nonce"]) >= 16
    assert asked["code_challenge_method"] == "S256" and asked["response_type"] == "code"
    assert asked["redirect_uri"] == "http://testserver/accounts/oidc/uni/login/callback/"
    assert set(asked["scope"].split()) == {"openid", "profile", "email"}


def test_nobody_is_led_there_by_a_link(client, oidc):
    """A sign-in that somebody else began for one is none that one wanted."""
    page = client.get(LOGIN)
    assert page.status_code == 200 and "http-equiv" not in page.content.decode()
    assert Client(enforce_csrf_checks=True).post(LOGIN).status_code == 403
    assert oidc.asked == []


def test_what_a_link_adds_is_not_passed_on(client):
    asked = asked_for(begin_with(client, "?scope=admin&auth_params=prompt%3Dnone%26redirect_uri%3Dhttps%3A%2F%2Fevil.test"))
    assert "admin" not in asked["scope"] and "prompt" not in asked and "evil" not in asked["redirect_uri"]


def begin_with(client, query):
    import html
    import re

    page = client.post(LOGIN + query)
    return html.unescape(re.search(r'content="0; url=([^"]+)"', page.content.decode())[1])


@pytest.mark.parametrize("page", ["/machines/", "/accounts/profile/?tab=1"])
def test_one_comes_back_to_the_page_one_wanted(client, page):
    assert sign_in(client, next=page).url == page


@pytest.mark.parametrize("page", ["https://evil.test/", "//evil.test", "\\\\evil.test", "javascript:alert(1)", "http:///evil.test", "/\\evil.test"])
def test_one_is_led_to_no_other_site(client, page):
    assert sign_in(client, next=page).url == "/"


def test_coming_in_is_recorded(client):
    sign_in(client)
    entry = AuditEntry.objects.get(action="user.signed_in")
    assert entry.actor == User.objects.get() and "uni" in str(entry.data)
    assert "for-grace" not in str(list(AuditEntry.objects.values_list("data", flat=True)))


def test_the_portal_keeps_neither_tokens_nor_rows_that_open_another_way(client):
    sign_in(client)
    assert not SocialToken.objects.exists() and not SocialAccount.objects.exists()


def test_the_admin_offers_none_of_those_rows(admin_client):
    assert admin_client.get("/admin/socialaccount/").status_code == 404
    assert "socialaccount" not in admin_client.get("/admin/").content.decode()


def test_the_session_is_a_new_one(client):
    client.get(reverse("account_login"))
    begin(client)
    before = client.session.session_key
    sign_in(client)
    assert client.session.session_key != before


# -- roles and groups ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["lecturers"], Role.TEACHER),
        (["lecturers", "lab-staff"], Role.STAFF),
        ("lecturers", Role.TEACHER),
        (["Lecturers"], Role.STUDENT),
        ({"lab-staff": 1}, Role.STUDENT),
    ],
)
def test_the_role_follows_the_groups(client, oidc, groups, role):
    oidc.people["grace"]["groups"] = groups
    sign_in(client)
    assert User.objects.get().role == role


def test_the_role_is_looked_at_each_time(client, oidc):
    make_user(role=Role.STAFF)  # the last who runs the portal would stay
    for groups, role in ((["lab-staff"], Role.STAFF), (["lecturers"], Role.TEACHER), ([], Role.STUDENT)):
        oidc.people["grace"]["groups"] = groups
        sign_in(Client())
        user = User.objects.get(username="grace")
        assert (user.role, user.is_staff) == (role, role == Role.STAFF)


def test_groups_may_lie_deeper(client, oidc, settings):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["groups"] = "realm_access.roles"
    oidc.people["grace"]["realm_access"] = {"roles": ["lab-staff"]}
    sign_in(client)
    assert User.objects.get().role == Role.STAFF


def test_others_are_told_of_the_groups(client):
    heard = []

    def hear(user, groups, **signal):
        heard.append((user.username, set(groups)))

    groups_read.connect(hear)
    try:
        sign_in(client)
    finally:
        groups_read.disconnect(hear)
    assert heard == [("grace", {"everybody"})]


# -- whose account it is -------------------------------------------------------------------------


def test_a_name_that_somebody_has_is_not_taken_from_them(client):
    local = make_user("grace", email="other@uni.test", role=Role.STAFF)
    sign_in(client)
    other = Identity.objects.get().user
    assert other != local and other.username != "grace" and other.role == Role.STUDENT
    local.refresh_from_db()
    assert local.check_password(PASSWORD) and local.first_name == ""


def test_an_address_that_has_an_account_makes_one_choose(client):
    local = make_user("hopper", email="grace@uni.test")
    answer = sign_in(client)
    assert answer.url == reverse("socialaccount_signup")
    page = client.get(answer.url).content.decode()
    assert "sign in as you did before" in page and "Make a second account" in page
    assert not Identity.objects.exists() and not is_signed_in(client)
    client.post(answer.url)
    second = Identity.objects.get().user
    assert second != local and second.email == "" and is_signed_in(client)
    assert User.objects.get(pk=local.pk).email == "grace@uni.test"


def test_whose_account_is_closed_gets_no_second_one(client):
    local = make_user("hopper", email="grace@uni.test")
    people.deactivate(local, acting_user=make_user(role=Role.STAFF))
    assert sign_in(client).url == reverse("account_inactive")
    assert not Identity.objects.exists() and not is_signed_in(client)
    people.reactivate(local, acting_user=User.objects.get(role=Role.STAFF))
    assert sign_in(client).url == reverse("socialaccount_signup")


def test_whose_account_is_closed_while_they_choose_gets_no_second_one(client):
    local = make_user("hopper", email="grace@uni.test")
    page = sign_in(client).url
    people.deactivate(local, acting_user=make_user(role=Role.STAFF))
    assert client.post(page).url == reverse("account_inactive")
    assert not Identity.objects.exists() and not is_signed_in(client)


def test_the_choice_does_not_wait_for_the_next_person_at_the_browser(client, monkeypatch):
    make_user("hopper", email="grace@uni.test")
    page = sign_in(client).url
    later = time.time() + 601
    monkeypatch.setattr("accounts.sso.forms.time.time", lambda: later)
    assert client.post(page).url == reverse("account_login")
    assert not Identity.objects.exists()


@pytest.mark.parametrize("is_active", [True, False])
def test_whose_address_is_only_claimed_learns_nothing_of_who_has_an_account(client, oidc, is_active):
    local = make_user("hopper", email="grace@uni.test", is_active=is_active)
    oidc.people["grace"]["email_verified"] = False
    assert sign_in(client).url == "/"
    second = Identity.objects.get().user
    assert second != local and second.email == ""


@pytest.mark.parametrize("claim", [False, "false", None, 0])
def test_an_address_counts_as_confirmed_only_if_the_provider_says_so(client, oidc, claim):
    oidc.people["grace"]["email_verified"] = claim
    assert sign_in(client).url == "/"
    assert not EmailAddress.objects.filter(verified=True).exists()


def test_an_address_counts_as_confirmed_in_the_domains_of_the_provider(client, oidc, settings):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["verified_email"] = ["uni.test"]
    oidc.people["grace"].pop("email_verified")
    oidc.people["eve"] = {"sub": "e-1", "preferred_username": "eve", "email": "eve@uni.test.evil.test"}
    sign_in(client)
    sign_in(Client(), "eve")
    assert list(EmailAddress.objects.filter(verified=True).values_list("email", flat=True)) == ["grace@uni.test"]


def test_without_an_address_one_is_signed_in_too(client, oidc, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    oidc.people["grace"] = {"sub": "g-1"}
    assert sign_in(client).url == "/"
    assert is_signed_in(client)


def test_claims_of_any_kind_are_survived(client, oidc):
    oidc.people["grace"] |= {
        "preferred_username": {"a": 1},
        "given_name": ["x"],
        "family_name": "\u202eevil\x00" * 100,
        "email": 7,
        "groups": [1, None, "y" * 999, "nul\x00"],
    }
    assert sign_in(client).url == "/"
    assert "\u202e" not in User.objects.get().last_name


@pytest.mark.parametrize("sub", ["", "nul\x00", "x" * 192])
def test_an_id_that_is_none_is_refused(client, oidc, sub):
    oidc.people["grace"]["sub"] = sub
    assert refused(sign_in(client), "cannot trust")
    assert not User.objects.exists()


def test_a_name_shows_what_it_is(client, oidc):
    oidc.people["grace"]["preferred_username"] = "gr\x00a\u202ece"
    sign_in(client)
    assert (User.objects.get().username, Identity.objects.get().name) == ("grace", "grace")


def test_whoever_is_switched_off_stays_out(client):
    sign_in(client)
    User.objects.update(is_active=False)
    assert sign_in(again := Client()).url == reverse("account_inactive")
    assert not is_signed_in(again)


def test_signing_out_is_local_and_complete(client, oidc):
    sign_in(client)
    oidc.asked.clear()
    assert "stay signed in there" in client.get(reverse("account_logout")).content.decode()
    assert client.post(reverse("account_logout")).status_code == 302
    assert not is_signed_in(client) and oidc.asked == []


# -- answers that are not to be trusted ----------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "wrong signature", "unsigned", "signed with the public key", "unknown key", "wrong nonce", "no nonce", "wrong audience",
        "audience of several", "expired", "other issuer", "no subject", "userinfo of somebody else",
    ],
)  # fmt: skip
def test_a_token_that_is_not_right_signs_nobody_in(client, oidc, wrong):
    oidc.misbehave.add(wrong)
    assert refused(sign_in(client), "cannot trust")
    assert not User.objects.exists()
    entry = AuditEntry.objects.get(action="user.sign_in_failed")
    assert entry.outcome == "refused" and entry.data["source"] == "sso:uni"
    oidc.misbehave.clear()
    assert sign_in(client).url == "/"


@pytest.mark.parametrize("wrong", ["discovery of another issuer", "plain endpoint", "broken"])
def test_a_discovery_document_that_is_not_right_leads_nowhere(client, oidc, wrong):
    oidc.misbehave.add(wrong)
    assert refused(client.post(LOGIN), "cannot trust")


def test_the_answer_belongs_to_the_browser_that_asked(client):
    """Nobody is signed in as somebody else by a link to their answer."""
    back = at_provider(begin(client))
    assert refused(Client().get(back), "another browser")
    assert client.get(back).status_code == 302


def test_an_answer_counts_once(client):
    back = at_provider(begin(client))
    client.get(back)
    client.post(reverse("account_logout"))
    assert refused(client.get(back), "done already")


def test_a_code_of_another_sign_in_is_refused(client):
    """PKCE: a code that was stolen is worth nothing in the thief's own sign-in."""
    stolen = asked_for(at_provider(begin(Client())))["code"]
    state = asked_for(begin(client))["state"]
    assert refused(client.get(f"{LOGIN}callback/", {"code": stolen, "state": state}), "cannot trust")


@pytest.mark.parametrize("query", [{}, {"code": "x"}, {"code": "x", "state": "y"}, {"error": "server_error", "state": "y"}, {"state": "\0"}])
def test_an_answer_that_nobody_asked_for_asks_the_provider_nothing(client, oidc, query):
    assert refused(client.get(f"{LOGIN}callback/", query), "Begin again")
    assert oidc.asked == [] and not AuditEntry.objects.exists()


def test_answers_by_the_thousand_are_not_looked_at(client, settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"single_sign_on": "2/5m/ip"}
    statuses = [client.get(f"{LOGIN}callback/", {"code": "x", "state": "y"}).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]
    assert sign_in(Client(REMOTE_ADDR="127.0.0.2")).url == "/"


def test_an_error_of_the_provider_is_said_in_the_portals_words(client):
    state = asked_for(begin(client))["state"]
    assert refused(client.get(f"{LOGIN}callback/", {"error": "<b>evil</b>", "error_description": "evil", "state": state}), "did not let you in")


def test_who_stops_there_finds_a_way_back(client):
    answer = client.get(at_provider(begin(client), cancel="1"))
    assert answer.url == reverse("socialaccount_login_cancelled")
    assert reverse("account_login") in client.get(answer.url).content.decode()


# -- a provider that is away ---------------------------------------------------------------------


def test_a_provider_that_is_down_gets_a_sentence(client, oidc, settings):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = "http://127.0.0.1:1/realms/uni"
    assert refused(client.post(LOGIN), "does not answer")
    assert client.get(reverse("account_login")).status_code == 200  # which asks it nothing


def test_a_slow_provider_is_given_up(client, oidc, settings):
    assert settings.SOCIALACCOUNT_REQUESTS_TIMEOUT <= 5
    settings.SOCIALACCOUNT_REQUESTS_TIMEOUT = 0.2
    oidc.misbehave.add("slow")
    assert refused(client.post(LOGIN), "does not answer")


def test_an_answer_without_an_end_is_not_read_to_its_end(client, oidc):
    oidc.misbehave.add("endless")
    assert refused(client.post(LOGIN), "cannot trust")
    assert 0 < oidc.sent < 30_000_000  # what was on its way


def test_it_may_go_away_in_the_middle(client, oidc, settings):
    settings.SOCIALACCOUNT_REQUESTS_TIMEOUT = 0.2
    back = at_provider(begin(client))
    oidc.misbehave.add("slow")
    assert refused(client.get(back), "does not answer")


def test_what_does_not_change_is_asked_once(oidc):
    for _ in range(3):
        sign_in(Client())
    asked = [path.rpartition("/")[2] for path in oidc.asked]
    assert (asked.count("openid-configuration"), asked.count("keys"), asked.count("token")) == (1, 1, 3)
