"""Security keys and passkeys: a second factor for everybody, and a way in by itself for people of the portal alone."""

import json
import subprocess
import sys
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import DIRECTORY, Identity, User
from tests.accounts.test_second_factor import give, is_signed_in, sign_in
from tests.factories import make_user
from tests.passkey import Passkey
from tests.web import environment

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


@pytest.fixture
def ada():
    return make_user("ada")


def add_page(client):
    return client.get(reverse("mfa_add_webauthn"))


def add(client, key, **sent):
    """Makes the key one of whoever is signed in at this browser."""
    made = key.made(as_told(add_page(client).context["js_data"]["creation_options"]))
    return client.post(reverse("mfa_add_webauthn"), {"name": "blue", "credential": json.dumps(made), **sent})


def as_told(options):
    """As the page tells the browser."""
    return json.loads(json.dumps(options))


def sign_in_by(key, client):
    asked = client.get(reverse("mfa_login_webauthn"), headers={"Accept": "application/json"}).json()["request_options"]
    return client.post(reverse("mfa_login_webauthn"), {"credential": json.dumps(key.signed(asked))}, follow=True)


def has_signed_in_just_now(client, user):
    client.force_login(user)
    session = client.session
    session["account_authentication_methods"] = [{"method": "socialaccount", "at": time.time()}]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()


class AnotherSystem(ModelBackend):
    """Takes every password for that of ada."""

    def authenticate(self, request, username=None, password=None, **credentials):
        return User.objects.get(username__startswith="ada")


def live_elsewhere(user, source):
    user.set_unusable_password()
    user.save()
    if source:
        Identity.objects.create(user=user, source=source, uid="17", name="ada")


# -- signing in by themselves --------------------------------------------------------------------


def test_a_passkey_signs_in_who_has_a_password_here(client, ada):
    key = Passkey()
    sign_in(client, ada)
    assert "Make it a passkey" in add_page(client).content.decode()
    assert add(client, key, passwordless="on").url == reverse("mfa_view_recovery_codes")
    browser = Client()
    sign_in_by(key, browser)
    assert is_signed_in(browser)


def test_so_it_does_where_single_sign_on_was_connected_beside_the_password(client, ada):
    key = Passkey()
    Identity.objects.create(user=ada, source="sso:uni", uid="17", name="ada")
    sign_in(client, ada)
    add(client, key, passwordless="on")
    browser = Client()
    sign_in_by(key, browser)
    assert is_signed_in(browser)


ELSEWHERE = [("ada", "sso:uni"), ("ada", DIRECTORY), ("ada@pve", "")]
NOT_BY_ITSELF = "does not sign you in by itself"


@pytest.mark.parametrize(("username", "source"), ELSEWHERE)
def test_who_signs_in_elsewhere_is_offered_no_passkey_and_reads_why(client, username, source):
    live_elsewhere(user := make_user(username), source)
    has_signed_in_just_now(client, user)
    page = add_page(client).content.decode()
    assert "Make it a passkey" not in page and NOT_BY_ITSELF in page
    assert '"passwordless": ""' in page  # by which the browser's script knows that there is no such field
    index = client.get(reverse("mfa_index")).content.decode()
    assert NOT_BY_ITSELF in index and "can replace the password" not in index


def test_who_has_a_password_here_reads_nothing_of_it(client, ada):
    sign_in(client, ada)
    index = client.get(reverse("mfa_index")).content.decode()
    assert NOT_BY_ITSELF not in index + add_page(client).content.decode() and "can replace the password" in index


@pytest.mark.parametrize(("username", "source"), ELSEWHERE)
def test_the_key_of_who_signs_in_elsewhere_opens_no_door_by_itself(client, username, source):
    """It would open it still when the account there is closed."""
    key = Passkey()
    live_elsewhere(user := make_user(username), source)
    has_signed_in_just_now(client, user)
    assert add(client, key, passwordless="on").status_code == 302  # asked for by hand
    browser = Client()
    assert NOT_BY_ITSELF in sign_in_by(key, browser).content.decode()
    assert not is_signed_in(browser)


def test_nor_does_one_that_was_made_while_there_was_a_password_here(client, ada):
    key = Passkey()
    sign_in(client, ada)
    add(client, key, passwordless="on")
    live_elsewhere(ada, "sso:uni")
    browser = Client()
    assert NOT_BY_ITSELF in sign_in_by(key, browser).content.decode()
    assert not is_signed_in(browser)


@pytest.mark.parametrize(("username", "source"), ELSEWHERE)
def test_after_the_other_system_it_is_a_second_factor(client, settings, username, source):
    key = Passkey()
    live_elsewhere(user := make_user(username), source)
    has_signed_in_just_now(client, user)
    add(client, key)
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.AnotherSystem"]
    browser = Client()
    assert sign_in(browser, user).url == reverse("mfa_authenticate") and not is_signed_in(browser)
    asked = as_told(browser.get(reverse("mfa_authenticate")).context["js_data"]["request_options"])
    browser.post(reverse("mfa_authenticate"), {"credential": json.dumps(key.signed(asked))})
    assert is_signed_in(browser)


# -- what a browser sends ------------------------------------------------------------------------

NO_CREDENTIALS = [
    "",
    "null",
    "[]",
    "{}",
    '"x"',
    "17",
    '{"response": {}}',
    '{"response": []}',
    '{"response": {"userHandle": 17}}',
    '{"response": {"userHandle": "MQ"}}',
]
NO_CREDENTIALS += ['{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "AA", "attestationObject": "AA"}}']
NO_CREDENTIALS += ['{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "e30", "attestationObject": "oA"}}']
NO_CREDENTIALS += [
    '{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "AA", "authenticatorData": "AA", "signature": "AA", "userHandle": "MQ"}}'
]

NO_CREDENTIALS += ['{"id": 1}', '{"response": 1}', '{"type": "public-key", "rawId": "AA", "id": "AA", "response": {"clientDataJSON": "W10"}}']
NO_CREDENTIALS += ["[" * 5000, "1" * 5000, '{"id": "' + "A" * 40_000 + '"}']
_ANSWER = '{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "e30", "authenticatorData": "DATA", "signature": "AA"}}'
NO_CREDENTIALS += [
    _ANSWER.replace("DATA", data)  # which end too early
    for data in ("A" * 50, "A" * 43 + "EAAAAA", "A" * 43 + "IAAAAD__w", "A" * 42 + "gAAAAAn5-fn58")
]


@pytest.mark.parametrize("credential", NO_CREDENTIALS)
def test_what_is_no_credential_opens_no_door(client, ada, credential):
    TOTP.activate(ada, generate_totp_secret())
    client.get(reverse("mfa_login_webauthn"), headers={"Accept": "application/json"})
    assert client.post(reverse("mfa_login_webauthn"), {"credential": credential}).status_code in (200, 302)
    assert not is_signed_in(client)
    sign_in(client, ada)
    assert client.post(reverse("mfa_authenticate"), {"credential": credential}).status_code == 200
    assert not is_signed_in(client)


@pytest.mark.parametrize("credential", NO_CREDENTIALS)
def test_what_is_no_credential_proves_nothing(client, ada, credential):
    sign_in(client, ada)
    client.get(reverse("mfa_reauthenticate_webauthn"))
    assert client.post(reverse("mfa_reauthenticate_webauthn"), {"credential": credential}).status_code in (200, 302)


@pytest.mark.parametrize("credential", NO_CREDENTIALS)
def test_what_is_no_credential_becomes_no_key(client, ada, credential):
    sign_in(client, ada)
    client.get(reverse("mfa_add_webauthn"))
    assert client.post(reverse("mfa_add_webauthn"), {"name": "blue", "credential": credential}).status_code == 200
    assert not Authenticator.objects.exists()


# -- where they are taken ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "takes"),
    [
        ("http://localhost:8000", True),
        ("https://labs.example.org", True),
        ("http://labs.example.org", False),
        ("https://192.0.2.7", False),
        ("https://[2001:db8::7]", False),
    ],
)
def test_keys_are_offered_where_browsers_allow_them(url, takes):
    say = "import labportal.settings as all; print('webauthn' in all.MFA_SUPPORTED_TYPES, all.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN)"
    said = subprocess.run([sys.executable, "-c", say], env=environment(SITE_URL=url), cwd=settings.BASE_DIR, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(takes), str(url.startswith("http://localhost"))]


def test_who_has_keys_alone_gets_in_by_a_recovery_code_where_keys_are_taken_no_more(client, ada, settings):
    Authenticator.objects.create(user=ada, type="webauthn", data={"name": "blue", "credential": {}})
    codes = RecoveryCodes.activate(ada).get_unused_codes()
    settings.MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
    sign_in(client, ada)
    page = client.get(reverse("mfa_authenticate")).content.decode()
    assert "use-key" not in page and "recovery codes" in page
    give(client, codes[0])
    assert is_signed_in(client)
    assert client.get(reverse("mfa_index")).status_code == 200
