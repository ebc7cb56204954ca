"""What an outside system says of a person, as the portal understands it. Everything in it is hostile."""

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.models import Role

from .errors import untrustworthy

_GROUPS_READ, _LONGEST_GROUP = 1000, 255
_LONGEST_ID = 191  # allauth's


def at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or what a path with dots leads to: Keycloak puts roles at `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for word in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(word)
    return found


def groups(value: Any) -> list[str]:
    """Names of groups from one claim: text or a list of it. What is no name is left out."""
    names = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else []
    return sorted({name for name in names[:_GROUPS_READ] if isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_GROUP})


def uid(provider: Any, value: Any) -> str:
    """The id of an account there. Raises SignInRefused for what cannot be one."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _LONGEST_ID:
        raise untrustworthy(provider, "the id is none")
    return value


def name(value: Any) -> str:
    """The name of an account there, without what does not show."""
    return "".join(filter(str.isprintable, str(value)))


def role(names: Sequence[str], by_role: Mapping[str, Sequence[str]]) -> Role | None:
    """The first role one of whose groups is among these."""
    return next((Role(role) for role, wanted in by_role.items() if not set(names).isdisjoint(wanted)), None)
