"""Which groups somebody is in, those that hold a group of theirs among them."""

from collections.abc import Callable, Collection, Iterable

import ldap
from ldap.ldapobject import SimpleLDAPObject

from .config import Groups
from .names import normalised
from .query import Found, TooMany, all_of, any_of, equals, search
from .types import Misconfigured

DEEPEST = 20  # groups in groups
MOST = 2000  # groups of one person
_AT_ONCE = 40  # groups that one search asks the holders of
_IN_CHAIN = ":1.2.840.113556.1.4.1941:"  # Active Directory's rule that follows groups in groups
_NO_ATTRIBUTES = ("1.1",)

# From the normalised DN of each group to its DN as the server writes it.
Dns = dict[str, str]


def groups_of(connection: SimpleLDAPObject, config: Groups, person: Found, name: str) -> frozenset[str]:
    """Normalised DNs. `connection` is bound as somebody who may read groups; `name` is what memberUid holds.
    Raises Misconfigured."""
    try:
        direct = _named_by(config, person) | _holding(connection, config, [person.dn], name)
        if not config.nested or (config.in_chain and not config.member_of):
            return frozenset(direct)
        return frozenset(with_holders(direct, lambda dns: _holders(connection, config, dns)))
    except TooMany:
        raise Misconfigured("This person is in too many groups.", f"{person.dn}: more than {MOST} groups, or than the server lists at once") from None


def with_holders(direct: Dns, holders: Callable[[Collection[str]], Dns]) -> Dns:
    """These groups, those that hold one of them, and so on. Groups that hold each other end it like any others.
    Raises TooMany."""
    known, fresh = dict(direct), dict(direct)
    for _ in range(DEEPEST):
        if not fresh:
            return known
        fresh = {group: dn for group, dn in holders(list(fresh.values())).items() if group not in known}
        known |= fresh
        if len(known) > MOST:
            raise TooMany
    return known


def _holders(connection: SimpleLDAPObject, config: Groups, dns: Collection[str]) -> Dns:
    """The groups that hold one of these groups directly."""
    holders = _holding(connection, config, dns)
    if config.member_of:
        for dn in dns:
            try:
                found = search(connection, [dn], "(objectClass=*)", [config.member_of], scope=ldap.SCOPE_BASE)
            except Misconfigured:
                continue  # a group that may not be read, or is of another server, tells of no other
            for group in found:
                holders |= _named_by(config, group)
    return holders


def _named_by(config: Groups, entry: Found) -> Dns:
    """The groups that an entry itself names."""
    return _by_name(entry.texts(config.member_of)) if config.member_of else {}


def _holding(connection: SimpleLDAPObject, config: Groups, dns: Collection[str], name: str = "") -> Dns:
    """The groups below the bases that name one of these entries, or this login name."""
    found: Dns = {}
    asked = list(dns)
    for at in range(0, len(asked), _AT_ONCE):
        filters = [_member(config, attribute, dn, name) for dn in asked[at : at + _AT_ONCE] for attribute in config.members]
        if config.bases and any(filters):
            groups = search(connection, config.bases, all_of(config.filter, any_of(filters)), _NO_ATTRIBUTES)
            found |= _by_name(group.dn for group in groups)
        if len(found) > MOST:
            raise TooMany
    return found


def _member(config: Groups, attribute: str, dn: str, name: str) -> str:
    """memberUid holds names, and names of people alone; all others hold DNs."""
    if attribute.lower() == "memberuid":
        return equals(attribute, name) if name else ""
    return equals(f"{attribute}{_IN_CHAIN}" if config.in_chain and config.nested else attribute, dn)


def _by_name(dns: Iterable[str]) -> Dns:
    return {name: dn for dn in dns if (name := normalised(dn))}
