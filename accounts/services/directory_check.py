"""Why somebody of the university directory can sign in, or cannot: every step, what was found at it, and what to change
where it fails. For whoever sets the portal up; neither the portal's password nor the person's is in any of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accounts.directory.config import DirectoryConfig
from accounts.directory.names import first_value
from accounts.directory.probe import probe
from accounts.directory.types import DirectoryError, Entry, Step
from accounts.models import DIRECTORY, Identity, Role, User

from . import directory, identities, roles

if TYPE_CHECKING:
    from accounts.directory.client import Directory


@dataclass(frozen=True, slots=True)
class Line:
    """`advice`: what is likely the cause, and what to change. `fatal`: nobody, or not this person, gets in like this."""

    did: str
    found: str
    advice: str = ""
    fatal: bool = False


# What follows from the groups in other apps: given those of an entry, and the person it is known as here, if any.
CONSEQUENCES: list[Callable[[frozenset[str], User | None], Iterable[Line]]] = []


def check(login: str, password: str | None = None) -> Iterator[Line]:
    """All that can be said of this person, in the order in which a sign-in goes; ends where it would end."""
    client = directory.client()
    assert client is not None
    yield from _settings(client.config)
    for line in (lines := list(_servers(client.config))):
        yield replace(line, fatal=bool(line.advice) and all(one.advice for one in lines))
    found_all = True
    for step in client.explain(login):
        found_all = step.good
        yield _explained(step, client.config)
    if not found_all:
        return
    try:
        entry = client.find(login)
        direct = _direct_groups(client, login)
        if entry is not None:
            yield from _person(entry, direct, client.config)
            if password is not None:
                yield _password(client.authenticate(login, password), entry)
    except DirectoryError as error:
        yield Line("Ask again", f"{error.message} {error.detail}", "It answers now and then: compare LDAP_TIMEOUT with how long its servers take.", fatal=True)


# -- settings and servers ------------------------------------------------------------------------


def _settings(config: DirectoryConfig) -> Iterator[Line]:
    way = f"a bind as {config.direct_bind}" if config.direct_bind else "a search, and a bind as who was found"
    yield Line("Settings: sign-in by", way)
    yield Line("Settings: people", f"{config.user_filter} under {'; '.join(config.user_bases)}, known by {config.attributes.uid}")
    groups = config.groups
    ways = [f"{', '.join(groups.members)} under {'; '.join(groups.bases)}" if groups.bases else "", groups.member_of]
    nested = "groups in groups count" if groups.nested else "groups in groups do not count"
    yield Line("Settings: groups", f"by {' and '.join(filter(None, ways))}; {nested}" if any(ways) else "none")
    for role, names in config.role_groups.items():
        yield Line(f"Settings: {role}", "\n".join(sorted(names)) or "no group")
    advice = ""
    if config.direct_bind and not config.bind_dn:
        advice = "Without LDAP_BIND_DN the nightly sync looks people up without an account: unless that may read, set one."
    yield Line("Settings: the portal's account", config.bind_dn or "none (anonymous)", advice)


def _servers(config: DirectoryConfig) -> Iterator[Line]:
    for uri in config.uris:
        seen = probe(uri, config)
        found = f"{seen.problem} (after {seen.milliseconds} ms)" if seen.problem else f"reached in {seen.milliseconds} ms, {seen.tls}"
        yield Line(f"Server {uri}", found, seen.advice)


# -- the steps of the look-up --------------------------------------------------------------------

# By a part of what the step says.
_ADVICE = (
    ("does not answer", "See the servers above. As long as none answers, people of the directory cannot sign in; everybody else can."),
    (
        "does not let the portal in",
        "LDAP_BIND_DN or LDAP_BIND_PASSWORD is wrong, or this account is locked or has expired. Try it: ldapwhoami -x -W -D DN -H URI",
    ),
    ("no encryption", "Set the server up for TLS, or name it as ldaps:// in LDAP_URIS if it has a port for that."),
    ("no such place", "LDAP_USER_BASES or LDAP_GROUP_BASES names a place that is not there, or that the portal's account may not read."),
    ("not let the portal search", "Allow the account of LDAP_BIND_DN to read below this place, or set it if there is none."),
    (
        "does not say who this is",
        "The attribute of LDAP_ATTRIBUTES is not there, or the portal's account may not read it. LDAP_KIND chooses those of a kind of server.",
    ),
    ("too many groups", "Narrow LDAP_GROUP_BASES or LDAP_GROUP_FILTER to the groups that matter here."),
    ("cannot be searched", "LDAP_USER_FILTER, LDAP_GROUP_FILTER or a base is not written as the server wants it."),
    ("makes no sense", "The server says why: compare LDAP_KIND and the attributes with what it is."),
    ("can be no name", "A name is of at most 254 characters that can be seen."),
    ("disabled this account", "Enable it in the directory; the next sign-in notices."),
    ("required groups", "Take the person into one of these groups, or change LDAP_REQUIRED_GROUPS."),
    ("no group of a role", "Take the person into a group of LDAP_ROLE_GROUPS, or set LDAP_STUDENT_BY_DEFAULT=true."),
    (
        "this is spelt so",
        "The server takes another name for this one (other letters, accents, blanks); a sign-in does not: type the name as the entry has it. If it is"
        " that, the portal's account may not read this attribute.",
    ),
    (
        ": nobody",
        "Look for a slip in the name. Is it in one of LDAP_LOGIN_ATTRIBUTES, below LDAP_USER_BASES, does LDAP_USER_FILTER let it through, and may the"
        " portal's account read the entry?",
    ),
)
_SEVERAL = "Several people have this name or address: nobody can say who is meant. Another name of theirs works, or narrow LDAP_USER_FILTER."


def _explained(step: Step, config: DirectoryConfig) -> Line:
    if step.good:
        return Line(step.did, step.found)
    advice = next((advice for words, advice in _ADVICE if words in step.found), _SEVERAL)
    if config.direct_bind and not config.bind_dn:
        advice += (
            " With LDAP_DIRECT_BIND and without LDAP_BIND_DN the entry is read by the person themselves: this check, and the nightly sync, need LDAP_BIND_DN."
        )
    return Line(step.did, step.found, advice, fatal=True)


def _direct_groups(client: "Directory", login: str) -> frozenset[str]:
    from accounts.directory.client import Directory

    alone = replace(client.config, groups=replace(client.config.groups, nested=False))
    entry = Directory(alone).find(login)
    return entry.groups if entry is not None else frozenset()


# -- the person in the portal --------------------------------------------------------------------


def _person(entry: Entry, direct: frozenset[str], config: DirectoryConfig) -> Iterator[Line]:
    nested = sorted(entry.groups - direct)
    yield Line("Groups by others", "\n".join(nested) or "none: in all of them directly")
    given = config.role_of(entry.groups)
    giving = sorted(entry.groups & config.role_groups.get(given or "", frozenset()))
    identity = Identity.objects.filter(source=DIRECTORY, uid=entry.uid).select_related("user").first()
    for follow in CONSEQUENCES:
        yield from follow(entry.groups, identity.user if identity is not None else None)
    yield Line("The groups give", f"{given}, by {', '.join(first_value(group) or group for group in giving)}" if given else "no role")
    if identity is None:
        username = identities.free_username(DIRECTORY, entry.name)
        yield Line("Account", f"none yet: “{username}” is made at the first sign-in, as {given or Role.STUDENT}")
        if entry.email and identities.is_taken(entry.email):
            yield Line("Address", f"{entry.email} is confirmed as somebody else's in the portal", "They sign in all the same, without an address.")
        return
    user = identity.user
    yield Line("Account", f"“{user.get_username()}”, now {user.role}, {f'last seen {identity.seen_at:%F %R}' if identity.seen_at else 'never seen'}")
    if not user.is_active and identity.closed_at is not None:
        yield Line("Account", "closed because the directory did not have the person; the next sign-in opens it again")
    elif not user.is_active:
        yield Line("Account", "closed by staff", "Open it in the admin, under People.", fatal=True)
    yield Line("Role here", _role_after(identity, given))


def _role_after(identity: Identity, given: str | None) -> str:
    user = identity.user
    if user.is_superuser:
        return "stays staff: a superuser"
    after = roles.after(identity, Role(given) if given else None)
    if after != user.role:
        return f"{after} from the next sign-in on; before, the groups gave {identity.role_given or 'nothing'}"
    return f"stays {after}" + ("" if after == (given or Role.STUDENT) else ": given in the portal or by another system")


def _password(entry: Entry | None, expected: Entry) -> Line:
    if entry is None:
        return Line("Password", "refused", "It is another, or has expired or is locked in the directory; the log of its server says which.", fatal=True)
    if entry.uid != expected.uid:
        return Line("Password", f"that of {entry.dn}", "LDAP_DIRECT_BIND leads to another entry than the search does.", fatal=True)
    return Line("Password", "right")
