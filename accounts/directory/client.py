"""The university directory: who somebody is there, and whether this is their password."""

import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import ldap
from ldap.dn import escape_dn_chars, str2dn
from ldap.ldapobject import SimpleLDAPObject

from .config import PLACE, DirectoryConfig
from .groups import groups_of
from .names import first_value, in_one_case
from .query import Found, TooMany, all_of, any_of, equals, search
from .servers import Servers, described
from .types import DirectoryError, Entry, Misconfigured, Step

LONGEST_LOGIN, LONGEST_PASSWORD, LONGEST_ID = 254, 1024, 255
MOST_MEANT = 50  # entries that one login may fit

# How directories say that an account is closed: Active Directory's bit, 389 Directory Server's word, OpenLDAP's date
# for locked by hand. Other dates there are of a lock that ends by itself, which the server applies.
_USER_ACCOUNT_CONTROL, _DISABLED_BIT = "userAccountControl", 2
_NS_ACCOUNT_LOCK = "nsAccountLock"
_PWD_ACCOUNT_LOCKED_TIME, _FOR_EVER = "pwdAccountLockedTime", "000001010000Z"
_MARKS = (_USER_ACCOUNT_CONTROL, _NS_ACCOUNT_LOCK, _PWD_ACCOUNT_LOCKED_TIME)

_PRINCIPAL_NAME = "userPrincipalName"  # that Active Directory binds with

# What servers say of a name or password that is not right, or of an account that may not bind.
_NOT_THEIRS = (
    ldap.INVALID_CREDENTIALS,
    ldap.INAPPROPRIATE_AUTH,
    ldap.UNWILLING_TO_PERFORM,
    ldap.INVALID_DN_SYNTAX,
    ldap.NO_SUCH_OBJECT,
    ldap.CONSTRAINT_VIOLATION,
    ldap.INSUFFICIENT_ACCESS,
)

Answer = TypeVar("Answer")


class Directory:
    """Threads share one. Every method raises Unreachable within the time of the settings where no server answers, and
    Misconfigured where one does and what the settings say cannot work with it.

    A name leads to somebody only as their entry has it, but for case. Servers match more: wide letters, blanks, accents
    with Active Directory. Whoever guesses a password could spell the name anew each time."""

    def __init__(self, config: DirectoryConfig) -> None:
        self.config = config
        self._servers = Servers(config)
        names = (*config.attributes.all, *config.attributes.logins, _PRINCIPAL_NAME)
        self._attributes = tuple(dict.fromkeys([*names, *_MARKS, *filter(None, [config.groups.member_of])]))

    def authenticate(self, login: str, password: str) -> Entry | None:
        """The person with this name, or address, and password. None: there is none, or several, or the password is
        another, or they may not sign in; which of these is not told, and takes no other time."""
        if not _can_be_name(login) or not _can_be_password(password):
            return None
        entry = self._ask(lambda connection: self._authenticated(connection, login.strip(), password))
        return entry if entry is not None and self.config.admits(entry) else None

    def find(self, login: str) -> Entry | None:
        """The person with this name or address, whether they may sign in or not. None: there is none, or several."""
        if not _can_be_name(login):
            return None
        return self._ask_as_portal(lambda connection: self._entry_if_any(connection, self._meant(connection, login.strip())))

    def by_uid(self, uid: str) -> Entry | None:
        """The person with this stable id."""
        value = self._id_written(uid)
        if value is None:
            return None
        wanted = all_of(self.config.user_filter, equals(self.config.attributes.uid, value))
        return self._ask_as_portal(lambda connection: self._one(connection, wanted))

    def holds(self, *names: str) -> bool:
        """Whether one of these is a name or an address of anybody or anything below the bases of people, who may sign in
        or not."""
        possible = [name.strip() for name in names if _can_be_name(name)]
        if not possible:
            return False
        attributes = {self.config.attributes.name, self.config.attributes.email, *self.config.attributes.logins}
        wanted = any_of(equals(attribute, name) for attribute in sorted(attributes) for name in possible)

        def held(connection: SimpleLDAPObject) -> bool:
            try:
                return bool(search(connection, self.config.user_bases, wanted, ("1.1",), limit=1))
            except TooMany:
                return True

        return self._ask_as_portal(held)

    def explain(self, login: str) -> Iterator[Step]:
        """How this person is looked up, step by step, without their password; the last step is the one it ends at."""
        config = self.config
        try:
            self._ask_as_portal(lambda connection: None)
            yield Step("Connect and bind", f"as {config.bind_dn or 'nobody (anonymous)'}")
            if not _can_be_name(login):
                yield Step("Look for the person", "this can be no name", good=False)
                return
            wanted = self._named(login.strip())
            people = self._ask_as_portal(lambda connection: self._people(connection, wanted))
        except DirectoryError as error:
            yield Step("Ask the directory", f"{error.message} {error.detail}", good=False)
            return
        except TooMany:
            yield Step("Look for the person", f"{wanted}: more than {MOST_MEANT}", good=False)
            return
        found = "; ".join(person.dn for person in people) or "nobody"
        meant = self._of_these(people, login.strip())
        if people and not self._spelt(people, login.strip()):
            found += f"; but in none of {', '.join(config.attributes.logins)} this is spelt so"
        yield Step("Look for the person", f"{wanted} under {'; '.join(config.user_bases)}: {found}", good=meant is not None)
        if meant is None:
            return
        if len(people) > 1:
            yield Step("Take the one with this name", meant.dn)
        try:
            entry = self.find(login)
        except DirectoryError as error:
            yield Step("Read the entry and its groups", f"{error.message} {error.detail}", good=False)
            return
        if entry is None:
            yield Step("Read the entry and its groups", "it has gone this moment", good=False)
            return
        yield Step("Read the entry", f"id {entry.uid}, name {entry.name}, {entry.first_name} {entry.last_name}, {entry.email or 'no address'}")
        yield Step("Read the groups", "\n".join(sorted(entry.groups)) or "none")
        yield Step("Role", config.role_of(entry.groups) or ("student, by default" if config.student_by_default else "none"))
        yield Step("May sign in", self._why(entry), good=config.admits(entry))

    # -- on a connection -----------------------------------------------------------------------

    def _authenticated(self, connection: SimpleLDAPObject, login: str, password: str) -> Entry | None:
        config = self.config
        if config.direct_bind:
            return self._bound_directly(connection, login, password)
        self._bind_as_portal(connection)
        person = self._meant(connection, login)
        if person is None:
            # A bind is tried all the same, as it would take time; not with what was typed, which may open an account
            # that is none of the directory's business.
            self._is_password(connection, f"cn={uuid.uuid4()},{config.user_bases[0]}", secrets.token_urlsafe())
            return None
        if not self._is_password(connection, person.dn, password):
            return None
        self._bind_as_portal(connection)
        return self._entry(connection, person)

    def _bound_directly(self, connection: SimpleLDAPObject, login: str, password: str) -> Entry | None:
        """The entry is that of the name that was bound with: another could have the same login elsewhere in the tree."""
        config, is_dn = self.config, "=" in self.config.direct_bind
        name = config.direct_bind.replace(PLACE, escape_dn_chars(login) if is_dn else login)
        if not self._is_password(connection, name, password):
            return None
        if config.bind_dn:
            self._bind_as_portal(connection)
        if is_dn:
            people = search(connection, [name], config.user_filter, self._attributes, scope=ldap.SCOPE_BASE)
            people = [person for person in people if _values(person.dn) == _values(name)]
        else:
            people = self._some(connection, all_of(config.user_filter, equals(_PRINCIPAL_NAME, name)))
            people = [person for person in people if _has(person, [_PRINCIPAL_NAME], name)]
        return self._entry(connection, people[0]) if len(people) == 1 else None

    def _is_password(self, connection: SimpleLDAPObject, name: str, password: str) -> bool:
        try:
            connection.simple_bind_s(name, password)
        except _NOT_THEIRS:
            return False
        return True

    def _bind_as_portal(self, connection: SimpleLDAPObject) -> None:
        try:
            connection.simple_bind_s(self.config.bind_dn, self.config.bind_password)
        except (*_NOT_THEIRS, ldap.STRONG_AUTH_REQUIRED, ldap.CONFIDENTIALITY_REQUIRED) as error:
            raise Misconfigured("The directory does not let the portal in.", f"bind as {self.config.bind_dn!r}: {described(error)}") from error

    def _people(self, connection: SimpleLDAPObject, wanted: str) -> list[Found]:
        return search(connection, self.config.user_bases, wanted, self._attributes, limit=MOST_MEANT)

    def _some(self, connection: SimpleLDAPObject, wanted: str) -> list[Found]:
        """Of too many none."""
        try:
            return self._people(connection, wanted)
        except TooMany:
            return []

    def _meant(self, connection: SimpleLDAPObject, login: str) -> Found | None:
        """The person of this login. Of several the one whose name it is: another may have written it into an attribute
        of their own. Else none: which of them it is nobody could say."""
        return self._of_these(self._some(connection, self._named(login)), login)

    def _of_these(self, people: list[Found], login: str) -> Found | None:
        people = self._spelt(people, login)
        if len(people) > 1:
            people = [person for person in people if _has(person, [self.config.attributes.name], login)]
        return people[0] if len(people) == 1 else None

    def _spelt(self, people: list[Found], login: str) -> list[Found]:
        return [person for person in people if _has(person, self.config.attributes.logins, login)]

    def _one(self, connection: SimpleLDAPObject, wanted: str) -> Entry | None:
        """Of several none."""
        people = self._some(connection, wanted)
        return self._entry(connection, people[0]) if len(people) == 1 else None

    def _entry_if_any(self, connection: SimpleLDAPObject, person: Found | None) -> Entry | None:
        return None if person is None else self._entry(connection, person)

    def _entry(self, connection: SimpleLDAPObject, person: Found) -> Entry:
        names = self.config.attributes
        uid, name = self._id_read(person), person.text(names.name)
        if not uid or not name:
            raise Misconfigured(
                "The directory does not say who this is.", f"{person.dn} has no {names.uid if not uid else names.name} that the portal may read"
            )
        return Entry(
            uid=uid,
            dn=person.dn,
            name=name,
            email=person.text(names.email).lower(),
            logins=self._logins(person),
            first_name=person.text(names.first_name),
            last_name=person.text(names.last_name),
            groups=groups_of(connection, self.config.groups, person, name),
            disabled=self._is_disabled(connection, person),
        )

    def _logins(self, person: Found) -> tuple[str, ...]:
        found = [value.strip() for attribute in self.config.attributes.logins for value in sorted(person.texts(attribute))]
        before, place, after = map(in_one_case, self.config.direct_bind.partition(PLACE))
        if place and "=" not in self.config.direct_bind:
            principals = [in_one_case(value) for value in person.texts(_PRINCIPAL_NAME)]
            found += [name.removeprefix(before).removesuffix(after) for name in principals if name.startswith(before) and name.endswith(after)]
        return tuple(dict.fromkeys(name for name in found if _can_be_name(name)))

    def _is_disabled(self, connection: SimpleLDAPObject, person: Found) -> bool:
        control = person.text(_USER_ACCOUNT_CONTROL)
        if control.isdecimal() and int(control) & _DISABLED_BIT:
            return True
        if person.text(_NS_ACCOUNT_LOCK).lower() == "true" or person.text(_PWD_ACCOUNT_LOCKED_TIME) == _FOR_EVER:
            return True
        return bool(self.config.disabled_filter) and bool(search(connection, [person.dn], self.config.disabled_filter, ("1.1",), scope=ldap.SCOPE_BASE))

    # -- the rest ------------------------------------------------------------------------------

    def _ask_as_portal(self, question: Callable[[SimpleLDAPObject], Answer]) -> Answer:
        def asked(connection: SimpleLDAPObject) -> Answer:
            self._bind_as_portal(connection)
            return question(connection)

        return self._ask(asked)

    def _ask(self, question: Callable[[SimpleLDAPObject], Answer]) -> Answer:
        try:
            return self._servers.ask(question)
        except ldap.LDAPError as error:
            raise Misconfigured("The directory gave an answer that makes no sense here.", described(error)) from error

    def _named(self, login: str) -> str:
        return all_of(self.config.user_filter, any_of(equals(attribute, login) for attribute in self.config.attributes.logins))

    def _id_read(self, person: Found) -> str:
        attribute = self.config.attributes.uid
        if attribute.lower() != "objectguid":
            return person.text(attribute)
        value = person.first(attribute)
        return str(uuid.UUID(bytes_le=value)) if len(value) == 16 else ""

    def _id_written(self, uid: str) -> str | bytes | None:
        """As the directory has it, or None where it can be no id of it."""
        if self.config.attributes.uid.lower() != "objectguid":
            return uid or None
        try:
            return uuid.UUID(uid).bytes_le
        except ValueError:
            return None

    def _why(self, entry: Entry) -> str:
        if self.config.admits(entry):
            return "yes"
        if entry.disabled:
            return "no: the directory has disabled this account"
        if self.config.required_groups and not self.config.required_groups & entry.groups:
            return f"no: in none of the required groups {'; '.join(sorted(first_value(group) for group in self.config.required_groups))}"
        return "no: in no group of a role"


def _has(person: Found, attributes: Iterable[str], name: str) -> bool:
    """Whether it is a value of one of these, but for case."""
    return in_one_case(name) in {in_one_case(value.strip()) for attribute in attributes for value in person.texts(attribute)}


def _values(dn: str) -> list[list[str]]:
    """Of a DN as it is spelt, but for case."""
    return [sorted(in_one_case(value) for _type, value, _how in rdn) for rdn in str2dn(dn)]


def _can_be_name(login: str) -> bool:
    return bool(login.strip()) and len(login) <= LONGEST_LOGIN and login.isprintable()


def _can_be_password(password: str) -> bool:
    """An empty one would bind anybody, as nobody; and a server written in C would read up to the NUL."""
    return bool(password) and len(password) <= LONGEST_PASSWORD and "\0" not in password and not re.search("[\ud800-\udfff]", password)
