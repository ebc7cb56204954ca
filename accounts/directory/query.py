"""Asking one server for entries. Whatever goes into a filter is escaped here, and whatever comes back is taken apart here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ldap
from ldap.filter import escape_filter_chars
from ldap.ldapobject import SimpleLDAPObject

from .types import Misconfigured


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as the server has it; the attributes under names in small letters."""

    dn: str
    values: dict[str, list[bytes]]

    def texts(self, attribute: str) -> list[str]:
        """Those of its values that are text, which a NUL is not: no database takes it."""
        texts = []
        for value in self.values.get(attribute.lower(), []):
            if b"\0" in value:
                continue
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                continue
        return texts

    def text(self, attribute: str) -> str:
        return next(iter(self.texts(attribute)), "")

    def first(self, attribute: str) -> bytes:
        return next(iter(self.values.get(attribute.lower(), [])), b"")


class TooMany(Exception):
    """There are more entries than were asked for, or than the server tells."""


def equals(attribute: str, value: str | bytes) -> str:
    """A filter for this value and for nothing else."""
    if isinstance(value, bytes):
        return f"({attribute}=" + "".join(f"\\{byte:02x}" for byte in value) + ")"
    return f"({attribute}={escape_filter_chars(value)})"


def any_of(filters: Iterable[str]) -> str:
    return f"(|{''.join(filters)})"


def all_of(*filters: str) -> str:
    return f"(&{''.join(filters)})"


def search(
    connection: SimpleLDAPObject, bases: Sequence[str], filter_text: str, attributes: Iterable[str], *, limit: int = 0, scope: int = ldap.SCOPE_SUBTREE
) -> list[Found]:
    """Every entry once, whichever bases it stands under. Pointers to other servers are not followed. Raises TooMany
    where there are more than `limit`, or Misconfigured where there is no such base or the search is not allowed."""
    found: dict[str, Found] = {}
    for base in bases:
        try:
            answers = connection.search_ext_s(base, scope, filter_text, list(attributes), sizelimit=limit)
        except ldap.SIZELIMIT_EXCEEDED:
            raise TooMany from None
        except ldap.NO_SUCH_OBJECT:
            raise Misconfigured("The directory has no such place.", f"there is nothing at {base!r}, or it may not be read") from None
        except (ldap.INSUFFICIENT_ACCESS, ldap.STRONG_AUTH_REQUIRED, ldap.CONFIDENTIALITY_REQUIRED, ldap.INAPPROPRIATE_AUTH) as error:
            raise Misconfigured("The directory does not let the portal search.", f"search under {base!r}: {type(error).__name__}") from None
        except (ldap.FILTER_ERROR, ldap.INVALID_DN_SYNTAX, ldap.REFERRAL) as error:
            raise Misconfigured("The directory cannot be searched like this.", f"search under {base!r}: {type(error).__name__}") from None
        for dn, values in answers:
            if dn is not None and isinstance(values, dict):
                found[dn] = Found(dn, {name.lower(): list(of_it) for name, of_it in values.items()})
    if limit and len(found) > limit:
        raise TooMany
    return list(found.values())
