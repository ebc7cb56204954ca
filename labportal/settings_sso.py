"""Settings of single sign-on: OpenID Connect and SAML, where configured. `.env.example` explains every variable."""

import json
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

_ROLES = ("staff", "teacher", "student")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,29}")  # part of addresses, and of what identities are kept under
_TAKEN_IDS = {"saml", "openid_connect"}  # names of allauth's kinds
OIDC_KEYS = {"id", "name", "issuer", "client_id", "client_secret", "scopes", "groups_claim", "roles", "email_domains"}


@dataclass(frozen=True)
class SingleSignOn:
    """What is configured: `apps` for INSTALLED_APPS, `providers` as allauth wants them."""

    apps: list[str] = field(default_factory=list)
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)


def read(env: environ.Env) -> SingleSignOn:
    """Raises ImproperlyConfigured, which names the variable, for a value that is missing or wrong."""
    openid_connect, saml = _openid_connect(env), _saml(env)
    ids = [app["provider_id"] for app in openid_connect + saml]
    if len(set(ids)) < len(ids):
        raise ImproperlyConfigured(f"Two systems of single sign-on have the same id: {', '.join(ids)}.")
    found = SingleSignOn()
    if openid_connect:
        found.apps.append("accounts.sso.openid_connect")
        found.providers["openid_connect"] = {"APPS": openid_connect}
    if saml:
        found.apps.append("accounts.sso.saml")
        found.providers["saml"] = {"APPS": saml}
    return found


# -- OpenID Connect ------------------------------------------------------------------------------


def _openid_connect(env: environ.Env) -> list[dict[str, Any]]:
    described = [(f"OIDC_PROVIDERS[{number}]", one) for number, one in enumerate(_json(env, "OIDC_PROVIDERS", list, []))]
    if env.str("OIDC_ISSUER", default=""):
        one = {key: value for key in OIDC_KEYS - {"roles", "scopes", "email_domains"} if (value := env.str(f"OIDC_{key.upper()}", default=""))}
        one |= {"roles": _json(env, "OIDC_ROLES", dict, {}), "email_domains": _words(env, "OIDC_EMAIL_DOMAINS")}
        if scopes := env.str("OIDC_SCOPES", default=""):
            one["scopes"] = scopes
        described.append(("OIDC", one))
    elif wrong := [name for name in ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET") if env.str(name, default="")]:
        raise ImproperlyConfigured(f"{wrong[0]} is set, but OIDC_ISSUER is not.")
    return [_openid_connect_app(name, one) for name, one in described]


def _openid_connect_app(name: str, one: Any) -> dict[str, Any]:
    if not isinstance(one, dict) or set(one) - OIDC_KEYS:
        raise ImproperlyConfigured(f"{name} must be a JSON object with no other keys than {', '.join(sorted(OIDC_KEYS))}.")
    for key, value in one.items():
        if key not in ("roles", "email_domains") and not isinstance(value, str):
            raise ImproperlyConfigured(f"{_variable(name, key)} must be text.")
    for key in ("issuer", "client_id"):
        if not one.get(key):
            raise ImproperlyConfigured(f"{_variable(name, key)} is not set.")
    scopes = one.get("scopes", "openid profile email").split()
    if "openid" not in scopes:
        raise ImproperlyConfigured(f"{_variable(name, 'scopes')} must hold openid.")
    provider = _id(_variable(name, "id"), one.get("id", "oidc"))
    return {
        "provider_id": provider,
        "name": one.get("name") or urlsplit(one["issuer"]).hostname,
        "client_id": one["client_id"],
        "secret": one.get("client_secret", ""),
        "settings": {
            "server_url": _safe_url(_variable(name, "issuer"), one["issuer"]).removesuffix("/.well-known/openid-configuration").rstrip("/"),
            "scope": scopes,
            "groups": one.get("groups_claim", "groups"),
            "roles": _roles(_variable(name, "roles"), one.get("roles", {})),
            "verified_email": _domains(_variable(name, "email_domains"), one.get("email_domains", [])),
        },
    }


def _variable(name: str, key: str) -> str:
    return f"OIDC_{key.upper()}" if name == "OIDC" else f'{name}["{key}"]'


# -- SAML ----------------------------------------------------------------------------------------


def _saml(env: environ.Env) -> list[dict[str, Any]]:
    metadata_url, entity_id = env.str("SAML_IDP_METADATA_URL", default=""), env.str("SAML_IDP_ENTITY_ID", default="")
    sso_url, certificate = env.str("SAML_IDP_SSO_URL", default=""), env.str("SAML_IDP_CERTIFICATE", default="")
    if not (metadata_url or sso_url or entity_id):
        return []
    if find_spec("onelogin") is None or find_spec("xmlsec") is None:
        raise ImproperlyConfigured("SAML is configured, but python3-saml is not installed. Install requirements/saml.txt.")
    if not entity_id:
        raise ImproperlyConfigured("SAML_IDP_ENTITY_ID is not set: the name that the identity provider has in its metadata.")
    idp: dict[str, Any] = {"entity_id": entity_id}
    if metadata_url:
        idp |= {"metadata_url": _safe_url("SAML_IDP_METADATA_URL", metadata_url), "metadata_request_timeout": 4}
    elif sso_url and certificate:
        idp |= {"sso_url": _safe_url("SAML_IDP_SSO_URL", sso_url), "x509cert": _pem("SAML_IDP_CERTIFICATE", certificate, "CERTIFICATE")}
    else:
        raise ImproperlyConfigured("SAML needs SAML_IDP_METADATA_URL, or both SAML_IDP_SSO_URL and SAML_IDP_CERTIFICATE.")
    provider = _id("SAML_ID", env.str("SAML_ID", default="university"))
    groups = env.str("SAML_GROUPS_ATTRIBUTE", default="urn:oid:1.3.6.1.4.1.5923.1.1.1.1")  # eduPersonAffiliation
    settings: dict[str, Any] = {
        "idp": idp,
        "advanced": _saml_security(env),
        "groups": groups,
        "roles": _roles("SAML_ROLES", _json(env, "SAML_ROLES", dict, {})),
        "verified_email": _domains("SAML_EMAIL_DOMAINS", _words(env, "SAML_EMAIL_DOMAINS")),
        "attribute_mapping": _saml_attributes(env),
    }
    if own_entity_id := env.str("SAML_SP_ENTITY_ID", default=""):
        settings["sp"] = {"entity_id": own_entity_id}
    name = env.str("SAML_NAME", default="") or urlsplit(entity_id).hostname or entity_id
    return [{"provider_id": provider, "client_id": provider, "name": name, "settings": settings}]


def _saml_security(env: environ.Env) -> dict[str, Any]:
    """Every assertion is signed, and belongs to a sign-in that began here."""
    security: dict[str, Any] = {"want_assertion_signed": True, "reject_idp_initiated_sso": True, "reject_deprecated_algorithm": True, "strict": True}
    security["allow_single_label_domains"] = True  # a portal of an intranet
    certificate, key = env.str("SAML_SP_CERTIFICATE", default=""), env.str("SAML_SP_KEY", default="")
    if bool(certificate) != bool(key):
        raise ImproperlyConfigured("SAML_SP_CERTIFICATE and SAML_SP_KEY are set both or neither.")
    if key:
        security |= {"x509cert": _pem("SAML_SP_CERTIFICATE", certificate, "CERTIFICATE"), "private_key": _pem("SAML_SP_KEY", key, "PRIVATE KEY")}
        security["authn_request_signed"] = True
    return security


SAML_ATTRIBUTES = {
    "uid": ["urn:oasis:names:tc:SAML:attribute:subject-id", "urn:oasis:names:tc:SAML:attribute:pairwise-id"],
    "username": ["urn:oid:0.9.2342.19200300.100.1.1", "uid"],
    "email": ["urn:oid:0.9.2342.19200300.100.1.3", "mail"],
    "first_name": ["urn:oid:2.5.4.42", "givenName"],
    "last_name": ["urn:oid:2.5.4.4", "sn"],
}


def _saml_attributes(env: environ.Env) -> dict[str, list[str]]:
    told = _json(env, "SAML_ATTRIBUTES", dict, {})
    if uid := env.str("SAML_UID_ATTRIBUTE", default=""):
        told = {**told, "uid": uid}
    if set(told) - set(SAML_ATTRIBUTES):
        raise ImproperlyConfigured(f"SAML_ATTRIBUTES may name {', '.join(SAML_ATTRIBUTES)}, not {', '.join(sorted(set(told) - set(SAML_ATTRIBUTES)))}.")
    named = {field: [names] if isinstance(names, str) else names for field, names in told.items()}
    for name, names in named.items():
        if not isinstance(names, list) or not all(isinstance(one, str) and one for one in names):
            raise ImproperlyConfigured(f"SAML_ATTRIBUTES[{name!r}] must be a name of an attribute or a list of such names.")
    return SAML_ATTRIBUTES | named


# -- values --------------------------------------------------------------------------------------


def _json(env: environ.Env, name: str, kind: type, default: Any) -> Any:
    text = env.str(name, default="")
    try:
        value = json.loads(text) if text else default
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is no JSON: {error}") from None
    if not isinstance(value, kind):
        raise ImproperlyConfigured(f"{name} must be a JSON {'list' if kind is list else 'object'}.")
    return value


def _words(env: environ.Env, name: str) -> list[str]:
    return [word for word in env.str(name, default="").replace(",", " ").split() if word]


def _id(name: str, value: str) -> str:
    if not _ID.fullmatch(value) or value in _TAKEN_IDS:
        raise ImproperlyConfigured(f"{name} must be of at most 30 small letters, digits and hyphens, and neither saml nor openid_connect.")
    return value


def _safe_url(name: str, url: str) -> str:
    """https, or http to this computer itself."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return url
    raise ImproperlyConfigured(f"{name} must begin with https:// and name a host.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _roles(name: str, told: Any) -> dict[str, list[str]]:
    if not isinstance(told, dict) or set(told) - set(_ROLES):
        raise ImproperlyConfigured(f"{name} must be a JSON object with no other keys than {', '.join(_ROLES)}.")
    for role, groups in told.items():
        if not isinstance(groups, list) or not all(isinstance(group, str) and group for group in groups):
            raise ImproperlyConfigured(f"{name}[{role!r}] must be a list of names of groups.")
    return {role: told[role] for role in _ROLES if role in told}  # whoever is in groups of two roles has the first


def _domains(name: str, told: Any) -> list[str]:
    if not isinstance(told, list) or not all(isinstance(domain, str) and domain and "@" not in domain for domain in told):
        raise ImproperlyConfigured(f"{name} must list domains of e-mail addresses, as example.org.")
    return told


def _pem(name: str, value: str, kind: str) -> str:
    """The PEM itself, or the path of a file with it."""
    text = value.replace("\\n", "\n")
    if "-----BEGIN" not in text:
        try:
            text = Path(value).read_text()
        except (OSError, ValueError):
            raise ImproperlyConfigured(f"{name} is neither PEM nor the path of a file that can be read.") from None
    if f"{kind}-----" not in text:
        raise ImproperlyConfigured(f"{name} holds no PEM {kind.lower()}.")
    return text
