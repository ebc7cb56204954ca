"""What is read of the university directory. Pure data: nothing here knows Django or LDAP."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One person of the directory.

    `uid` is the directory's own stable id as text (entryUUID, objectGUID, or what the settings name); it outlives a
    change of name and of place. `logins` are all names that this person may type. `groups` are the normalised DNs of
    all groups, those that hold a group of theirs among them. `disabled`: the directory says that this account may not
    sign in.
    """

    uid: str
    dn: str
    name: str
    email: str = ""
    logins: tuple[str, ...] = ()
    first_name: str = ""
    last_name: str = ""
    groups: frozenset[str] = frozenset()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step of looking a person up, for staff: what was done, what was found, and whether one can go on from there."""

    did: str
    found: str
    good: bool = True


class DirectoryError(Exception):
    """The directory could not be asked. `message` is for people, `detail` for staff; neither holds a password."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message, self.detail = message, detail


class Unreachable(DirectoryError):
    """No server answered in time; nothing is known about the person."""


class Misconfigured(DirectoryError):
    """A server answered, and what the settings say cannot work with it: wrong bind password, no such base."""
