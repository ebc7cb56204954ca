"""API tokens: how they are made, shown once, and end."""

import logging
import re
from datetime import timedelta

import pytest
import time_machine
from django.apps import apps
from django.core import serializers
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import override

from accounts.models import ApiToken, AuditEntry, Notice, Role, RolePolicy, Scope
from accounts.services import audit, tokens
from accounts.services.roles import set_role
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db

HOME, AWAY = "192.0.2.1", "192.0.2.2"


def in_a_week():
    return timezone.now() + timedelta(days=7)


def make(user, *scopes, name="script", expires_at=None):
    return tokens.make(user, name=name, scopes=scopes, expires_at=expires_at or in_a_week())


def recorded(action):
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


def signed_in(user):
    client = Client()
    client.post(reverse("account_login"), {"login": user.username, "password": PASSWORD})
    return client


# -- what they are ---------------------------------------------------------------------------------


def test_people_and_scanners_know_a_token_by_its_shape():
    _token, secret = make(make_user())
    assert re.fullmatch(r"lp_[\w-]{43}[0-9a-f]{8}", secret, re.ASCII)


def test_a_mistyped_token_is_told_without_asking_the_database(django_assert_num_queries):
    _token, secret = make(make_user())
    for wrong in (secret[:-1] + ("0" if secret[-1] != "0" else "1"), secret.swapcase(), secret[3:], secret + "x", "", "lp_", "ü" * 54, "lp_" + "\udcff" * 51):
        with django_assert_num_queries(0), pytest.raises(tokens.Unauthorised) as refused:
            tokens.authenticate(wrong, address=HOME)
        assert refused.value.code == "token_unknown"


def test_a_token_leads_to_its_person_with_its_scopes_and_reading():
    user = make_user()
    token, secret = make(user, Scope.POWER)
    grant = tokens.authenticate(secret, address=HOME)
    assert (grant.user, grant.token, grant.scopes) == (user, token, {Scope.READ, Scope.POWER})


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        (Role.STUDENT, [Scope.READ, Scope.POWER]),
        (Role.TEACHER, [Scope.READ, Scope.POWER, Scope.CLASSES]),
        (Role.STAFF, [Scope.READ, Scope.POWER, Scope.CLASSES, Scope.ADMIN]),
    ],
)
def test_scopes_are_offered_as_far_as_the_person_may(role, offered):
    user = make_user(role=role)
    assert tokens.offered_scopes(user) == offered
    for scope in set(Scope) - set(offered):
        with pytest.raises(tokens.TokenRefused, match="cannot do more than you"):
            make(user, scope)


def test_a_name_is_given_once_among_living_tokens():
    user = make_user()
    first, _secret = make(user)
    with pytest.raises(tokens.TokenRefused) as refused:
        make(user, name=" script ")
    assert refused.value.code == "name_taken"
    make(make_user())  # of somebody else
    tokens.revoke(first, acting_user=user)
    second, _secret = make(user)
    with time_machine.travel(second.expires_at, tick=False):
        make(user)


def test_its_person_reads_of_it_in_a_mail_in_their_language_without_the_secret():
    user = make_user(language="de")
    token, secret = make(user, Scope.POWER, name="laptop")
    with pytest.raises(tokens.TokenRefused):
        make(user, name="laptop")
    told = Notice.objects.get()
    assert (told.user, told.to) == (user, user.email)
    assert "laptop" in told.body and secret[:10] not in told.subject + told.body
    with override("de"):
        assert str(Scope.POWER.label) in told.body and date_format(token.expires_at, "DATE_FORMAT") in told.body


def test_a_person_has_so_many_tokens_and_no_more():
    user = make_user()
    for number in range(tokens.MOST):
        token, _secret = make(user, name=f"script {number}")
    with pytest.raises(tokens.TokenRefused) as refused:
        make(user)
    assert refused.value.code == "too_many"
    tokens.revoke(token, acting_user=user)
    make(user)


@override_settings(API_TOKEN_MAX_DAYS=30)
def test_staff_of_the_portal_say_how_long_a_token_may_last():
    user = make_user()
    assert tokens.lifetimes() == [7, 30]
    for expires_at in (None, timezone.now() + timedelta(days=31), timezone.now()):
        with pytest.raises(tokens.TokenRefused) as refused:
            tokens.make(user, name="script", scopes=[], expires_at=expires_at)
        assert refused.value.code == "expiry"
    with override_settings(API_TOKEN_MAX_DAYS=3):
        assert tokens.lifetimes() == [3]
    with override_settings(API_TOKEN_MAX_DAYS=0):
        assert tokens.lifetimes() == [7, 30, 90, 365, None]
        tokens.make(user, name="script", scopes=[], expires_at=None)


def test_a_shorter_limit_holds_for_tokens_that_were_made_before():
    user = make_user()
    with override_settings(API_TOKEN_MAX_DAYS=0):
        token, secret = tokens.make(user, name="script", scopes=[], expires_at=None)
        assert token.ends_at is None
    week, other = make(user, name="a week")
    tenth_day = token.created_at + timedelta(days=10)
    with override_settings(API_TOKEN_MAX_DAYS=10):
        assert (token.ends_at, week.ends_at) == (tenth_day, week.expires_at)
        page = signed_in(user).get(reverse("accounts:tokens")).text
        assert f"until {date_format(tenth_day)}" in page and "does not expire" not in page
        with time_machine.travel(tenth_day - timedelta(seconds=1), tick=False):
            tokens.authenticate(secret, address=HOME)
            assert refusal(other) == "token_expired"
        with time_machine.travel(tenth_day, tick=False):
            assert refusal(secret) == "token_expired"
            make(user)  # its name is free again
    tokens.authenticate(secret, address=HOME)


# -- how they end ----------------------------------------------------------------------------------


def refusal(secret):
    with pytest.raises(tokens.Unauthorised) as refused:
        tokens.authenticate(secret, address=HOME)
    return refused.value.code


def test_a_token_expires_to_the_second():
    token, secret = make(make_user())
    with time_machine.travel(token.expires_at - timedelta(seconds=1), tick=False):
        tokens.authenticate(secret, address=HOME)
    with time_machine.travel(token.expires_at, tick=False):
        assert refusal(secret) == "token_expired"


def test_a_revoked_token_opens_nothing_and_the_others_stay():
    user = make_user()
    token, secret = make(user)
    _other, kept = make(user, name="other")
    tokens.revoke(token, acting_user=user)
    tokens.revoke(token, acting_user=user)
    assert refusal(secret) == "token_revoked"
    tokens.authenticate(kept, address=HOME)
    assert [entry.object_id for entry in recorded("token.revoke")] == [str(token.key)]
    assert tokens.revoke_all(user, acting_user=user) == 1
    assert refusal(kept) == "token_revoked"


def test_the_token_of_a_closed_account_opens_nothing():
    user = make_user()
    _token, secret = make(user)
    user.is_active = False
    user.save()
    assert refusal(secret) == "account_closed"


def test_whoever_owes_a_second_factor_cannot_use_tokens_until_they_have_one():
    user = make_user(role=Role.STAFF)
    _token, secret = make(user)
    RolePolicy.objects.update_or_create(role=Role.STAFF, defaults={"second_factor": True})
    assert refusal(secret) == "second_factor"


def test_a_demoted_person_s_token_keeps_what_they_may():
    make_user(role=Role.STAFF)  # somebody has to stay
    user = make_user(role=Role.STAFF)
    _token, secret = make(user, *Scope)
    set_role(user, Role.TEACHER, acting_user=None)
    assert tokens.authenticate(secret, address=HOME).scopes == {Scope.READ, Scope.POWER, Scope.CLASSES}
    set_role(user, Role.STUDENT, acting_user=None)
    assert tokens.authenticate(secret, address=HOME).scopes == {Scope.READ, Scope.POWER}


# -- what is written down --------------------------------------------------------------------------


def test_the_last_use_is_written_at_most_once_a_minute():
    token, secret = make(make_user())
    start = timezone.now()
    seen = []
    for seconds in (0, 30, 59, 61, 90):
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            tokens.authenticate(secret, address=HOME)
        token.refresh_from_db()
        seen.append(round((token.last_used_at - start).total_seconds()))
    assert seen == [0, 0, 0, 61, 61]
    assert token.last_used_from == HOME


def test_the_first_use_from_each_address_is_recorded():
    user = make_user()
    _token, secret = make(user)
    for address in (HOME, HOME, AWAY, HOME, AWAY):
        with audit.origin(address=address):
            tokens.authenticate(secret, address=address)
    assert [(entry.actor, entry.address) for entry in recorded("token.use")] == [(user, HOME), (user, AWAY)]


def test_the_secret_is_kept_nowhere(caplog):
    caplog.set_level(logging.DEBUG)
    user = make_user()
    _token, secret = make(user, Scope.POWER)
    tokens.authenticate(secret, address=HOME)
    tokens.record_refusal(secret, code="token_revoked")
    everything = "".join(serializers.serialize("json", model.objects.all()) for model in apps.get_models())
    for place in (everything, caplog.text):
        assert secret not in place and secret[3:20] not in place
    digest = ApiToken.objects.get().digest
    assert [entry.data["hash"] for entry in recorded("token.refused")] == [digest[:12]]
    assert digest not in "".join(str(entry.data) for entry in AuditEntry.objects.all())


# -- the pages -------------------------------------------------------------------------------------


def new_token(client, **data):
    return client.post(reverse("accounts:new_token"), {"name": "script", "days": "30", **data})


def test_a_person_makes_a_token_and_sees_it_once():
    user = make_user()
    client = signed_in(user)
    made = new_token(client, scopes=["power"])
    secret = re.search(r"lp_[\w-]{51}", made.content.decode())[0]
    assert made.status_code == 200 and "no-store" in made["Cache-Control"]
    assert tokens.authenticate(secret, address=HOME).scopes == {Scope.READ, Scope.POWER}
    assert all(secret not in str(value) for value in client.session.items())
    page = client.get(reverse("accounts:tokens")).content.decode()
    assert "script" in page and secret not in page and ApiToken.objects.get().digest not in page


def test_sent_twice_the_form_makes_one_token():
    client = signed_in(make_user())
    new_token(client)
    again = new_token(client)
    assert again.status_code == 409 and "You have a token of this name" in again.content.decode()
    assert ApiToken.objects.count() == 1


@pytest.mark.parametrize("data", [{"name": ""}, {"name": "a\u202eb"}, {"name": "x" * 61}, {"days": "400"}, {"days": ""}, {"days": "-1"}, {"scopes": ["admin"]}])
def test_a_token_that_may_not_be_is_not_made(data):
    client = signed_in(make_user())
    assert new_token(client, **data).status_code == 409
    assert not ApiToken.objects.exists()


def test_making_a_token_needs_a_password_typed_lately():
    user = make_user()
    client = signed_in(user)
    with time_machine.travel(timezone.now() + timedelta(minutes=10), tick=False):
        for answer in (client.get(reverse("accounts:new_token")), new_token(client)):
            assert answer.status_code == 302 and answer.url.startswith(reverse("account_reauthenticate"))
        assert not ApiToken.objects.exists()
        client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
        assert client.get(reverse("accounts:new_token")).status_code == 200


def test_nobody_revokes_or_sees_the_token_of_somebody_else():
    token, _secret = make(make_user(), name="hers")
    client = signed_in(make_user(role=Role.STAFF))
    assert client.post(reverse("accounts:revoke_token", args=[token.key])).status_code == 404
    client.post(reverse("accounts:revoke_tokens"))
    assert "hers" not in client.get(reverse("accounts:tokens")).content.decode()
    token.refresh_from_db()
    assert token.revoked_at is None


def test_a_person_revokes_one_token_or_all():
    user = make_user()
    made = [make(user, name=name)[0] for name in ("one", "two", "three")]
    client = signed_in(user)
    assert "Revoke the token “one”" in client.get(reverse("accounts:revoke_token", args=[made[0].key])).content.decode()
    client.post(reverse("accounts:revoke_token", args=[made[0].key]))
    assert [token.name for token in tokens.living(user)] == ["three", "two"]
    client.post(reverse("accounts:revoke_tokens"))
    assert tokens.living(user) == []
    assert "No API tokens yet" in client.get(reverse("accounts:tokens")).content.decode()
