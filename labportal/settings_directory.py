"""Settings of the university directory. Without LDAP_URIS there is none, and nothing of LDAP is imported."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import environ
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from accounts.directory.config import DirectoryConfig

# What a kind of directory calls things; LDAP_ATTRIBUTES and the others say where an installation differs.
_KINDS: dict[str, dict[str, Any]] = {
    "openldap": {"uid": "entryUUID", "name": "uid", "logins": ["uid", "mail"], "filter": "(objectClass=person)", "member_of": "", "in_chain": False},
    "ad": {
        "uid": "objectGUID",
        "name": "sAMAccountName",
        "logins": ["sAMAccountName", "userPrincipalName", "mail"],
        "filter": "(&(objectCategory=person)(objectClass=user))",
        "member_of": "",
        "in_chain": True,
    },
    "389ds": {"uid": "nsUniqueId", "name": "uid", "logins": ["uid", "mail"], "filter": "(objectClass=person)", "member_of": "", "in_chain": False},
    "freeipa": {"uid": "ipaUniqueID", "name": "uid", "logins": ["uid", "mail"], "filter": "(objectClass=person)", "member_of": "memberOf", "in_chain": False},
}

_ATTRIBUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9;._-]*")  # an OID, too


def read(env: environ.Env) -> "DirectoryConfig | None":
    """Raises ImproperlyConfigured."""
    if not env.ENVIRON.get("LDAP_URIS", "").strip():
        return None
    if find_spec("ldap") is None or find_spec("django_auth_ldap") is None:
        raise ImproperlyConfigured(
            "LDAP_URIS is set, but python-ldap and django-auth-ldap are not installed. bin/up installs them; by hand: apt-get install libldap-dev"
            " libsasl2-dev gcc, then pip install --require-hashes -r requirements/ldap.txt."
        )
    try:
        return _config(env)
    except ValueError as error:
        raise ImproperlyConfigured(f"The directory's settings (LDAP_…) are wrong: {error}.") from None


def _config(env: environ.Env) -> "DirectoryConfig":
    from accounts.directory.config import Attributes, DirectoryConfig, Groups, whole_names

    kind = _text(env, "LDAP_KIND", "openldap")
    if kind not in _KINDS:
        raise ValueError(f"LDAP_KIND must be one of {', '.join(_KINDS)}")
    usual = _KINDS[kind]
    names = _json(env, "LDAP_ATTRIBUTES", {})
    if unknown := set(names) - {"uid", "name", "email", "first_name", "last_name"}:
        raise ValueError(f"LDAP_ATTRIBUTES knows uid, name, email, first_name and last_name, but not {sorted(unknown)[0]}")
    ca_file, member_of = _text(env, "LDAP_CA_FILE", ""), _text(env, "LDAP_MEMBER_OF_ATTRIBUTE", usual["member_of"]).strip()
    return DirectoryConfig(
        uris=_list(env, "LDAP_URIS", []),
        user_bases=_dns(env, "LDAP_USER_BASES"),
        start_tls=_bool(env, "LDAP_START_TLS", True),
        allow_plaintext=_bool(env, "LDAP_ALLOW_PLAINTEXT", False),
        ca_file=Path(ca_file) if ca_file else None,
        timeout=_seconds(env, "LDAP_TIMEOUT", 2.5),
        bind_dn=_text(env, "LDAP_BIND_DN", ""),
        bind_password=_text(env, "LDAP_BIND_PASSWORD", ""),
        direct_bind=_text(env, "LDAP_DIRECT_BIND", ""),
        user_filter=_text(env, "LDAP_USER_FILTER", usual["filter"]),
        disabled_filter=_text(env, "LDAP_DISABLED_FILTER", ""),
        attributes=Attributes(
            **{"uid": usual["uid"], "name": usual["name"], **{of: _attribute("LDAP_ATTRIBUTES", name) for of, name in names.items()}},
            logins=_attributes(env, "LDAP_LOGIN_ATTRIBUTES", usual["logins"]),
        ),
        groups=Groups(
            bases=_dns(env, "LDAP_GROUP_BASES"),
            filter=_text(env, "LDAP_GROUP_FILTER", "(objectClass=*)"),
            members=_attributes(env, "LDAP_GROUP_MEMBER_ATTRIBUTES", list(Groups().members)),
            member_of=member_of and _attribute("LDAP_MEMBER_OF_ATTRIBUTE", member_of),
            nested=_bool(env, "LDAP_NESTED_GROUPS", True),
            in_chain=_bool(env, "LDAP_IN_CHAIN", usual["in_chain"]),
        ),
        role_groups={role: whole_names(_texts("LDAP_ROLE_GROUPS", dns)) for role, dns in _json(env, "LDAP_ROLE_GROUPS", {}).items()},
        required_groups=whole_names(_dns(env, "LDAP_REQUIRED_GROUPS")),
        student_by_default=_bool(env, "LDAP_STUDENT_BY_DEFAULT", True),
        password_url=_text(env, "LDAP_PASSWORD_URL", ""),
        reserved_domains=frozenset(domain.lower().lstrip("@") for domain in _list(env, "LDAP_RESERVED_DOMAINS", [])),
    )


def _text(env: environ.Env, name: str, default: str) -> str:
    """As it stands: django-environ takes a value that begins with $, as passwords may, for the name of another variable."""
    value: str = env.ENVIRON.get(name, default)
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 come as halves of characters, which no server can be sent
        raise ValueError(f"{name} is not written in UTF-8") from None
    return value


def _bool(env: environ.Env, name: str, default: bool) -> bool:
    value = _text(env, name, str(default)).strip().lower()
    if value not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise ValueError(f"{name} must be true or false")
    return value in ("true", "yes", "on", "1")


def _seconds(env: environ.Env, name: str, default: float) -> float:
    try:
        return float(_text(env, name, str(default)))
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds") from None


def _list(env: environ.Env, name: str, default: list[str]) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[,\s]+", _text(env, name, ",".join(default)).strip()) if part)


def _attributes(env: environ.Env, name: str, default: list[str]) -> tuple[str, ...]:
    return tuple(_attribute(name, value) for value in _list(env, name, default))


def _attribute(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _ATTRIBUTE.fullmatch(value):
        raise ValueError(f"{name}: {json.dumps(value, ensure_ascii=False)} is no name of an attribute")
    return value


def _dns(env: environ.Env, name: str) -> tuple[str, ...]:
    """DNs hold commas, so semicolons stand between them; one within a DN is written \\3b."""
    from accounts.directory.names import normalised

    found = tuple(part.strip() for part in _text(env, name, "").split(";") if part.strip())
    for dn in found:
        if not normalised(dn):
            raise ValueError(f"{name}: {dn} is no distinguished name")
    return found


def _json(env: environ.Env, name: str, default: dict[str, Any]) -> dict[str, Any]:
    text = _text(env, name, "").strip()
    try:
        value = json.loads(text) if text else default
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object")
    return value


def _texts(name: str, value: Any) -> list[str]:
    """A list of texts; one text alone is a list of one."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name}: each role has a list of groups")
    return texts
