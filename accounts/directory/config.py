"""What the portal is told of the university directory. Checked where it is made, so that nothing wrong is found out at a sign-in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from .names import depth, normalised
from .types import Entry

LONGEST_WAIT = 3.0  # seconds that a sign-in may wait for all servers together
PLACE = "{login}"  # in a direct bind: what was typed

# From the one that gives most to the one that gives least.
ROLES = ("staff", "teacher", "student")


@dataclass(frozen=True, slots=True)
class Attributes:
    """Names of the attributes of a person. `uid` holds the id that never changes, `logins` what may be typed."""

    uid: str = "entryUUID"
    name: str = "uid"
    email: str = "mail"
    first_name: str = "givenName"
    last_name: str = "sn"
    logins: tuple[str, ...] = ("uid", "mail")

    @property
    def all(self) -> tuple[str, ...]:
        return (self.uid, self.name, self.email, self.first_name, self.last_name)


@dataclass(frozen=True, slots=True)
class Groups:
    """Where groups are found. `bases`: searched for groups whose `members` name the person. `member_of`: the attribute
    of the person, and of a group, that names groups, or "". `nested`: a group in a group brings both. `in_chain`: the
    server follows groups in groups by itself, as Active Directory does."""

    bases: tuple[str, ...] = ()
    filter: str = "(objectClass=*)"
    members: tuple[str, ...] = ("member", "uniqueMember", "memberUid")
    member_of: str = ""
    nested: bool = True
    in_chain: bool = False


@dataclass(frozen=True, slots=True)
class DirectoryConfig:
    """Raises ValueError, whose text is one sentence, for what cannot be right.

    `bind_dn` empty: people are searched for without an account. `direct_bind`: no search before the bind, the name
    to bind with is this text with what was typed in place of `{login}`; a DN or a name as Active Directory takes it.
    """

    uris: tuple[str, ...]
    user_bases: tuple[str, ...]
    start_tls: bool = True
    allow_plaintext: bool = False
    ca_file: Path | None = None
    timeout: float = 2.5  # seconds for all servers together
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    direct_bind: str = ""
    user_filter: str = "(objectClass=person)"
    disabled_filter: str = ""  # who matches may not sign in, beside those whom the directory marks as disabled
    attributes: Attributes = Attributes()
    groups: Groups = Groups()
    role_groups: Mapping[str, frozenset[str]] = field(default_factory=dict)  # role: normalised DNs
    required_groups: frozenset[str] = frozenset()  # normalised DNs; whoever is in none of them may not sign in
    student_by_default: bool = True  # whoever is in no group of a role is a student; else they may not sign in
    reserved_domains: frozenset[str] = frozenset()  # of the directory's addresses: nobody signs up with them while it is down
    password_url: str = ""  # where people of the directory change their password

    def __post_init__(self) -> None:
        if not self.uris:
            raise ValueError("no server is named")
        for uri in self.uris:
            self._check(uri)
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ValueError(f"{self.ca_file} with the authorities' certificates is not there")
        if not self.user_bases:
            raise ValueError("no base is named to look for people in")
        if bool(self.bind_dn) != bool(self.bind_password):
            raise ValueError("a bind DN needs its password, and a password its bind DN")
        if self.direct_bind and PLACE not in self.direct_bind:
            raise ValueError(f"a direct bind needs {PLACE} where the typed name goes")
        if not 0.2 <= self.timeout <= LONGEST_WAIT:
            raise ValueError(f"the time-out must be between 0.2 and {LONGEST_WAIT:g} seconds")
        for text in (self.user_filter, self.groups.filter, *filter(None, [self.disabled_filter])):
            if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")):
                raise ValueError(f"{text} is no filter: it stands in brackets")
        if unknown := set(self.role_groups) - set(ROLES):
            raise ValueError(f"{sorted(unknown)[0]} is no role: student, teacher and staff are")
        if (any(self.role_groups.values()) or self.required_groups) and not (self.groups.bases or self.groups.member_of):
            raise ValueError("groups give something, but neither a base to look for groups in nor an attribute that names them is given")
        if self.password_url and urlsplit(self.password_url).scheme not in ("http", "https"):
            raise ValueError(f"{self.password_url} is no address of a page")
        if not self.attributes.logins:
            raise ValueError("no attribute is named that people may sign in with")

    def _check(self, uri: str) -> None:
        try:
            parts = urlsplit(uri)
            good = parts.scheme in ("ldap", "ldaps") and (parts.hostname or "").encode("idna") and parts.path in ("", "/") and (parts.port or 1)
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"{uri} is no address of a server: ldaps://host or ldap://host, with :port where it is another")
        if parts.scheme == "ldap" and not self.start_tls and not self.allow_plaintext and not _is_loopback(parts.hostname or ""):
            raise ValueError(f"{uri} would send passwords in clear: take ldaps:// or StartTLS, or allow it explicitly")

    def role_of(self, groups: Collection[str]) -> str | None:
        """The role that these groups give, the one that gives most, or None."""
        return next((role for role in ROLES if self.role_groups.get(role, frozenset()) & set(groups)), None)

    def admits(self, entry: Entry) -> bool:
        """Whether this person of the directory may sign in at all."""
        if entry.disabled or (self.required_groups and not self.required_groups & entry.groups):
            return False
        return self.student_by_default or self.role_of(entry.groups) is not None


def whole_names(dns: Collection[str]) -> frozenset[str]:
    """Groups as `Entry.groups` has them. Raises ValueError where one is no whole DN: `cn=staff` alone would name any group of that name."""
    for dn in dns:
        if depth(dn) < 2:
            raise ValueError(f"{dn!r} is no whole distinguished name")
    return frozenset(normalised(dn) for dn in dns)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
