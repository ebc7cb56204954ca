"""Signing in with SAML, at an identity provider whose assertions are really signed."""

import html
import re
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Identity, Role, User
from tests.factories import make_user
from tests.sso.identity_provider import GROUPS, SUBJECT_ID, TRANSIENT, WRAPPINGS, key_pair
from tests.sso.walk import is_signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("saml")]

LOGIN, ACS = "/accounts/saml/uni/login/", "/accounts/saml/uni/acs/"


def browser():
    return Client(headers={"host": "localhost"})


@pytest.fixture
def client():
    return browser()


def begin(client, **data):
    page = client.post(LOGIN, data).content.decode()
    return html.unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)[1])


def end(client, where, fields):
    """The form of the identity provider's page is posted, and the browser follows to the end of it."""
    answer = client.post(urlsplit(where).path, fields)
    return client.get(answer.url) if answer.status_code == 302 else answer


def sign_in(client, saml, **data):
    return end(client, *saml.answer(begin(client, **data)))


def refused(response, words="cannot trust"):
    assert response.status_code == 401
    assert words in response.content.decode()
    assert not is_signed_in(response.client)
    return True


def test_whoever_signs_in_there_is_signed_in_here(client, saml):
    assert sign_in(client, saml).url == "/"
    user = User.objects.get()
    assert (user.username, user.first_name, user.last_name, user.role) == ("grace", "Grace", "Hopper", Role.STUDENT)
    assert EmailAddress.objects.get(user=user).verified  # by the domains of the settings
    assert (Identity.objects.get().source, Identity.objects.get().uid) == ("sso:uni", "persistent-1")
    assert AuditEntry.objects.filter(action="user.signed_in", actor=user).exists()
    assert is_signed_in(client)


def test_it_is_the_same_person_with_the_role_of_today(client, saml):
    sign_in(client, saml)
    saml.attributes["urn:oid:1.3.6.1.4.1.5923.1.1.1.1"] = ["member", "faculty"]
    saml.attributes["urn:oid:0.9.2342.19200300.100.1.1"] = ["hopper"]
    sign_in(browser(), saml)
    assert User.objects.get().role == Role.TEACHER


def test_one_comes_back_to_the_page_one_wanted_and_to_no_other_site(saml):
    assert sign_in(browser(), saml, next="/machines/").url == "/machines/"
    assert sign_in(browser(), saml, next="https://evil.test/").url == "/"


@pytest.mark.parametrize("relay_state", ["https://evil.test/", "//evil.test", "/machines/", "javascript:alert(1)"])
def test_what_the_answer_brings_along_leads_nowhere(client, saml, relay_state):
    where, fields = saml.answer(begin(client))
    assert end(client, where, fields | {"RelayState": relay_state}).url == "/"


@pytest.mark.parametrize(
    "wrong",
    [
        "unsigned", "signed by another", "changed afterwards", "wrong audience", "no audience", "expired", "other issuer", "other recipient",
        "no request in the assertion", *WRAPPINGS,
    ],
)  # fmt: skip
def test_an_assertion_that_is_not_right_signs_nobody_in(client, saml, wrong):
    saml.misbehave.add(wrong)
    assert refused(sign_in(client, saml))
    assert not User.objects.exists()
    assert AuditEntry.objects.get(action="user.sign_in_failed").data["source"] == "sso:uni"
    saml.misbehave.clear()
    assert sign_in(client, saml).url == "/"


def test_an_assertion_may_be_encrypted_for_the_portal_and_is_looked_at_all_the_same(saml, settings):
    key, certificate = key_pair()
    settings.SOCIALACCOUNT_PROVIDERS["saml"]["APPS"][0]["settings"]["advanced"] |= {"x509cert": certificate, "private_key": key.decode()}
    saml.encrypt_for = certificate
    assert sign_in(browser(), saml).url == "/"
    saml.attributes[GROUPS] = [f"CN=course-{number:04d},OU=groups,DC=uni,DC=test" for number in range(400)]
    assert sign_in(browser(), saml).url == "/"
    saml.misbehave.add("no audience")
    assert refused(sign_in(browser(), saml))


def test_an_answer_to_no_request_is_refused(client, saml):
    """Nobody is signed in by an answer that was posted at them."""
    saml.misbehave.add("no request")
    assert refused(sign_in(client, saml), "Begin again")


def test_an_assertion_counts_once(client, saml):
    where, fields = saml.answer(begin(client))
    assert end(client, where, fields).url == "/"
    client.post(reverse("account_logout"))
    assert refused(end(client, where, fields))


def test_an_assertion_that_was_stolen_signs_nobody_in(client, saml):
    """Neither as it is nor as the answer to a request of the thief's own."""
    where, fields = saml.answer(begin(browser()))
    assert refused(end(client, where, fields), "another browser")


def test_a_stolen_assertion_in_an_answer_to_the_thiefs_own_request(client, saml):
    import base64
    import zlib
    from urllib.parse import parse_qs

    where, stolen = saml.answer(begin(browser()))
    own = zlib.decompress(base64.b64decode(parse_qs(urlsplit(begin(client)).query)["SAMLRequest"][0]), -15).decode()
    own_id = re.search(r' ID="([^"]+)"', own)[1]
    text = base64.b64decode(stolen["SAMLResponse"]).decode()
    head, rest = text.split("<saml:Issuer>", 1)  # only the assertion is signed, the head of the response is not
    head = re.sub(r'InResponseTo="[^"]+"', f'InResponseTo="{own_id}"', head)
    assert own_id in head
    forged = {"SAMLResponse": base64.b64encode(f"{head}<saml:Issuer>{rest}".encode()).decode()}
    assert refused(end(client, where, forged))


@pytest.mark.parametrize("posted", [{}, {"SAMLResponse": ""}, {"SAMLResponse": "%%%"}, {"SAMLResponse": "PGEvPg=="}, {"SAMLResponse": "x" * 80_001}])
def test_rubbish_gets_a_sentence(client, posted):
    assert refused(end(client, ACS, posted))


@pytest.mark.parametrize("name", ["SAMLResponse", "RelayState", "anything"])
def test_what_is_too_long_is_not_kept(client, name):
    assert refused(client.post(ACS, {"SAMLResponse": "PGEvPg==", name: "x" * 80_001}))
    assert not Session.objects.exists()


def test_entities_of_an_answer_are_not_followed(client):
    import base64

    bomb = '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol">&a;</samlp:Response>'
    answer = end(client, ACS, {"SAMLResponse": base64.b64encode(bomb.encode()).decode()})
    assert refused(answer) and "root:" not in answer.content.decode()


def test_who_is_only_a_guest_of_a_moment_is_told_so(client, saml):
    saml.name_id_format = TRANSIENT
    assert refused(sign_in(client, saml), "in a way that lasts")
    assert not User.objects.exists()


def test_the_attribute_of_the_id_goes_before_the_name_id(client, saml):
    saml.name_id_format = TRANSIENT
    saml.attributes[SUBJECT_ID] = ["grace-1@uni.test"]
    assert sign_in(client, saml).url == "/"
    saml.name_id = "another-one"
    sign_in(browser(), saml)
    assert Identity.objects.get().uid == "grace-1@uni.test"


def test_an_address_that_has_an_account_makes_one_choose(client, saml):
    make_user("hopper", email="grace@uni.test")
    assert sign_in(client, saml).url == reverse("socialaccount_signup")
    client.post(reverse("socialaccount_signup"))
    assert Identity.objects.get().user.username == "grace" and is_signed_in(client)


def test_whoever_is_switched_off_stays_out(client, saml):
    sign_in(client, saml)
    User.objects.update(is_active=False)
    assert sign_in(browser(), saml).url == reverse("account_inactive")


def test_an_identity_provider_that_is_down_gets_a_sentence(client, saml, settings):
    settings.SOCIALACCOUNT_PROVIDERS["saml"]["APPS"][0]["settings"]["idp"]["metadata_url"] = "http://127.0.0.1:1/metadata"
    assert refused(client.post(LOGIN), "does not answer")


@pytest.mark.parametrize("text", ["", "<h1>Maintenance</h1>", "<a/>", '<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>'])
def test_metadata_that_are_none_get_a_sentence(client, saml, monkeypatch, text):
    monkeypatch.setattr(saml, "metadata", lambda: text)
    assert refused(client.post(LOGIN))


def test_its_metadata_is_asked_for_once(saml):
    for _ in range(3):
        sign_in(browser(), saml)
    assert saml.asked == 1


def test_answers_that_nobody_fetches_go_away_soon(client, saml):
    client.post(*saml.answer(begin(client)))
    kept = Session.objects.exclude(session_key=client.session.session_key).get()
    assert kept.get_decoded()["_session_expiry"] <= 300


def test_the_metadata_of_the_portal_says_where_answers_go_and_that_they_are_signed(client, saml):
    text = client.get("/accounts/saml/uni/metadata/").content.decode()
    assert 'Location="http://localhost/accounts/saml/uni/acs/"' in text and 'WantAssertionsSigned="true"' in text
    assert "SingleLogoutService" not in text
    assert saml.asked == 0
    assert client.get("/accounts/saml/uni/sls/").status_code == 404
