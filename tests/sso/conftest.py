"""Real systems of single sign-on, started by the tests, and a portal that is told of them."""

import pytest
from django.core.cache import cache

from labportal.settings_sso import SAML_ATTRIBUTES
from tests.sso.identity_provider import ENTITY_ID, GROUPS, IdentityProvider
from tests.sso.provider import CLIENT_ID, CLIENT_SECRET, Provider


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    cache.clear()


@pytest.fixture
def provider():
    with Provider() as provider:
        yield provider


@pytest.fixture
def oidc(provider, settings):
    """What OIDC_… would make of it (see test_settings)."""
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {
            "APPS": [
                {
                    "provider_id": "uni",
                    "name": "University Sign-on",
                    "client_id": CLIENT_ID,
                    "secret": CLIENT_SECRET,
                    "settings": {
                        "server_url": provider.issuer,
                        "scope": ["openid", "profile", "email"],
                        "groups": "groups",
                        "roles": {"staff": ["lab-staff"], "teacher": ["lecturers"]},
                        "verified_email": [],
                    },
                }
            ]
        }
    }
    return provider


@pytest.fixture
def idp():
    with IdentityProvider() as idp:
        yield idp


@pytest.fixture
def saml(idp, settings):
    """What SAML_… would make of it (see test_settings)."""
    settings.SOCIALACCOUNT_PROVIDERS = {
        "saml": {
            "APPS": [
                {
                    "provider_id": "uni",
                    "client_id": "uni",
                    "name": "University",
                    "settings": {
                        "idp": {"entity_id": ENTITY_ID, "metadata_url": f"{idp.url}/metadata", "metadata_request_timeout": 4},
                        "advanced": {"want_assertion_signed": True, "reject_idp_initiated_sso": True, "reject_deprecated_algorithm": True, "strict": True},
                        "groups": GROUPS,
                        "roles": {"staff": ["staff"], "teacher": ["faculty"]},
                        "verified_email": ["uni.test"],
                        "attribute_mapping": SAML_ATTRIBUTES,
                    },
                }
            ]
        }
    }
    return idp
