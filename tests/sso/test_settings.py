"""Single sign-on as the environment describes it."""

import json

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from labportal import settings_sso
from tests.sso.identity_provider import key_pair

OIDC = {"OIDC_ISSUER": "https://sso.uni.test/realms/uni/", "OIDC_CLIENT_ID": "labportal", "OIDC_CLIENT_SECRET": "s"}
SAML = {"SAML_IDP_ENTITY_ID": "https://idp.uni.test/idp", "SAML_IDP_METADATA_URL": "https://idp.uni.test/metadata"}


def read(**values):
    env = environ.Env()
    env.ENVIRON = values
    return settings_sso.read(env)


def app(kind="openid_connect", **values):
    return read(**values).providers[kind]["APPS"][0]


def test_nothing_is_configured_by_nothing():
    found = read()
    assert (found.apps, found.providers) == ([], {})


def test_one_provider_by_variables():
    found = app(**OIDC, OIDC_NAME="University", OIDC_ROLES='{"teacher": ["t"], "staff": ["s"]}', OIDC_EMAIL_DOMAINS="uni.test, cs.uni.test")
    assert (found["provider_id"], found["name"], found["client_id"]) == ("oidc", "University", "labportal")
    assert found["settings"]["server_url"] == "https://sso.uni.test/realms/uni"
    assert list(found["settings"]["roles"]) == ["staff", "teacher"]  # whoever is in both is staff
    assert found["settings"]["verified_email"] == ["uni.test", "cs.uni.test"]
    assert read(**OIDC).apps == ["accounts.sso.openid_connect"]


def test_several_providers_by_a_list():
    several = [{"id": name, "issuer": f"https://{name}.test", "client_id": "c", "client_secret": "s", "groups_claim": "roles"} for name in ("north", "south")]
    found = read(OIDC_PROVIDERS=json.dumps(several), **SAML)
    assert [one["provider_id"] for one in found.providers["openid_connect"]["APPS"]] == ["north", "south"]
    assert found.apps == ["accounts.sso.openid_connect", "accounts.sso.saml"]


def test_saml_by_metadata_or_by_its_parts(tmp_path):
    key, certificate = key_pair()
    (tmp_path / "idp.pem").write_text(certificate)
    parts = {"SAML_IDP_ENTITY_ID": "x", "SAML_IDP_SSO_URL": "https://idp.test/sso", "SAML_IDP_CERTIFICATE": str(tmp_path / "idp.pem")}
    found = app("saml", **parts, SAML_SP_CERTIFICATE=certificate.replace("\n", "\\n"), SAML_SP_KEY=key.decode(), SAML_UID_ATTRIBUTE="eduPersonUniqueId")
    assert found["settings"]["idp"]["x509cert"] == certificate
    assert found["settings"]["advanced"]["authn_request_signed"] and found["settings"]["advanced"]["private_key"] == key.decode()
    assert found["settings"]["attribute_mapping"]["uid"] == ["eduPersonUniqueId"]
    assert app("saml", **SAML)["settings"]["idp"]["metadata_url"] == SAML["SAML_IDP_METADATA_URL"]


def test_whatever_is_configured_assertions_are_signed_and_asked_for():
    security = app("saml", **SAML)["settings"]["advanced"]
    assert security["want_assertion_signed"] and security["reject_idp_initiated_sso"] and security["strict"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"OIDC_CLIENT_ID": "x"}, "OIDC_ISSUER"),
        ({"OIDC_ISSUER": "https://x.test"}, "OIDC_CLIENT_ID"),
        (OIDC | {"OIDC_ISSUER": "http://sso.uni.test"}, "OIDC_ISSUER"),
        (OIDC | {"OIDC_ISSUER": "http://localhost.evil.test"}, "OIDC_ISSUER"),
        (OIDC | {"OIDC_SCOPES": "profile"}, "OIDC_SCOPES"),
        (OIDC | {"OIDC_ROLES": "staff"}, "OIDC_ROLES"),
        (OIDC | {"OIDC_ROLES": '{"admin": ["x"]}'}, "OIDC_ROLES"),
        (OIDC | {"OIDC_ROLES": '{"staff": "x"}'}, "OIDC_ROLES"),
        (OIDC | {"OIDC_ID": "../x"}, "OIDC_ID"),
        (OIDC | {"OIDC_EMAIL_DOMAINS": "@uni.test"}, "OIDC_EMAIL_DOMAINS"),
        ({"OIDC_PROVIDERS": "{}"}, "OIDC_PROVIDERS"),
        ({"OIDC_PROVIDERS": '["x"]'}, "OIDC_PROVIDERS"),
        ({"OIDC_PROVIDERS": '[{"issuer": "https://x.test", "client_id": 1}]'}, "client_id"),
        (OIDC | {"OIDC_PROVIDERS": '[{"issuer": "https://x.test", "client_id": "x"}]'}, "same id"),
        ({"SAML_IDP_METADATA_URL": "https://x.test"}, "SAML_IDP_ENTITY_ID"),
        (SAML | {"SAML_IDP_METADATA_URL": "http://idp.uni.test"}, "SAML_IDP_METADATA_URL"),
        ({"SAML_IDP_ENTITY_ID": "x"}, "SAML_IDP_METADATA_URL"),
        ({"SAML_IDP_ENTITY_ID": "x", "SAML_IDP_SSO_URL": "https://x.test", "SAML_IDP_CERTIFICATE": "/nowhere"}, "SAML_IDP_CERTIFICATE"),
        (SAML | {"SAML_SP_KEY": "x"}, "SAML_SP_CERTIFICATE"),
        (SAML | {"SAML_ATTRIBUTES": '{"role": "x"}'}, "SAML_ATTRIBUTES"),
        (SAML | {"SAML_ATTRIBUTES": '{"email": [1]}'}, "SAML_ATTRIBUTES"),
        (SAML | {"SAML_ID": "saml"}, "SAML_ID"),
    ],
)
def test_what_is_wrong_is_named(values, named):
    with pytest.raises(ImproperlyConfigured, match=named) as refused:
        read(**values)
    assert "\n" not in str(refused.value)


def test_without_its_library_saml_is_refused(monkeypatch):
    monkeypatch.setattr(settings_sso, "find_spec", lambda name: None)
    with pytest.raises(ImproperlyConfigured, match=r"requirements/saml\.txt"):
        read(**SAML)
