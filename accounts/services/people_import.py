"""Many people at once, from a list: judged line by line without writing, then taken in whole or not at all."""

import csv
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.directory.types import DirectoryError
from accounts.models import Identity, Role, User
from accounts.selectors import in_portions, taken_addresses

from . import audit, directory, people, roles
from .refusal import Refusal

MOST_LINES = 5000
MOST_WITH_DIRECTORY = 500  # new people: the directory is asked about each
_ASKED_AT_ONCE = 25
_PATIENCE = 20.0  # seconds for all questions to the directory: somebody waits for the page
NEEDED, COLUMNS = ("username", "email"), ("username", "email", "first_name", "last_name", "role", "class")
_LONGEST = {"username": 150, "email": 254, "first_name": 150, "last_name": 150, "role": 10, "class": 100}
# A spreadsheet that opens a list of these would run what follows.
_FORMULA = ("=", "+", "-", "@")


class Classes(Protocol):
    """What the app of classes knows, which is above this one."""

    def named(self, names: Collection[str]) -> Mapping[str, Any]:
        """The open classes of these names or short names, by what was asked for. Not those of several of one name."""

    def students(self, lab_class: Any, users: Collection[User]) -> Collection[int]:
        """The primary keys of those who are in the class."""

    def enrol(self, lab_class: Any, students: Sequence[User], *, acting_user: User) -> None:
        """Put them into the class. Inside a transaction."""


CLASSES: list[Classes] = []


class ImportRefused(Refusal):
    """Nothing of the list was taken in."""


@dataclass(slots=True)
class Line:
    """One line of the list, and what would happen. `number` is that of a text editor."""

    number: int
    values: dict[str, str]
    problems: list[str] = field(default_factory=list)
    person: User | None = None  # who is here already
    lab_class: Any = None
    joins: bool = False  # the class, which they are not in yet

    @property
    def is_new(self) -> bool:
        return self.person is None and not self.problems

    @property
    def role(self) -> Role:
        return Role(self.values["role"] or Role.STUDENT)


@dataclass(frozen=True, slots=True)
class Done:
    made: int
    unchanged: int
    enrolled: int
    mails: int


# -- reading ---------------------------------------------------------------------------------------


def judge(text: str, *, acting_user: User) -> list[Line]:
    """What each line would do. Raises ImportRefused where this is no list of people at all."""
    lines = _judged(text, acting_user)
    _ask_directory(lines)
    return lines


def _judged(text: str, acting_user: User) -> list[Line]:
    """As far as the portal itself knows."""
    lines = _read(text)
    for line in lines:
        _judge_alone(line, acting_user)
    _judge_together(lines)
    _judge_against_those_here(lines)
    _judge_classes(lines)
    return lines


def _read(text: str) -> list[Line]:
    rows = text.removeprefix("\ufeff").splitlines(keepends=True)
    if not rows:
        raise ImportRefused(_("The file is empty."))
    delimiter = max(",;\t", key=rows[0].count)
    reader = csv.reader(rows, delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader)]
        if missing := [name for name in NEEDED if name not in names]:
            raise ImportRefused(_("The first line names the columns. Missing: %(columns)s.") % {"columns": ", ".join(missing)})
        if unknown := [name for name in names if name not in COLUMNS]:
            what = {"unknown": ", ".join(name[:40] or "“”" for name in unknown[:5]), "columns": ", ".join(COLUMNS)}
            raise ImportRefused(_("There are columns that mean nothing here: %(unknown)s. Known: %(columns)s.") % what)
        if len(set(names)) < len(names):
            raise ImportRefused(_("A column is there twice."))
        lines: list[Line] = []
        before = reader.line_num
        for row in reader:
            number, before = before + 1, reader.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(lines) == MOST_LINES:
                raise ImportRefused(_("This list is too long: at most %(most)d people at once.") % {"most": MOST_LINES})
            values = dict.fromkeys(COLUMNS, "") | {name: cell.strip() for name, cell in zip(names, row, strict=False)}
            line = Line(number, values)
            if len(row) != len(names):
                line.problems.append(_("It has %(count)d columns, not %(expected)d.") % {"count": len(row), "expected": len(names)})
            lines.append(line)
    except csv.Error as error:
        raise ImportRefused(_("Line %(number)d cannot be read: %(why)s.") % {"number": reader.line_num, "why": error}) from error
    if not lines:
        raise ImportRefused(_("The file has no people in it."))
    return lines


# -- judging ---------------------------------------------------------------------------------------


def _judge_alone(line: Line, acting_user: User) -> None:
    values = line.values
    values["email"], values["role"] = values["email"].lower(), values["role"].lower()
    values["username"] = unicodedata.normalize("NFKC", values["username"])
    for name, value in values.items():
        if any(unicodedata.category(letter) in ("Cc", "Cf") for letter in value):
            line.problems.append(_("%(column)s has control characters.") % {"column": name})
        elif value.startswith(_FORMULA):
            line.problems.append(_("%(column)s begins like a formula of a spreadsheet.") % {"column": name})
        elif len(value) > _LONGEST[name]:
            line.problems.append(_("%(column)s is longer than %(most)d characters.") % {"column": name, "most": _LONGEST[name]})
    for name in NEEDED:
        if not values[name]:
            line.problems.append(_("%(column)s is empty.") % {"column": name})
    if line.problems:
        return
    for check, value in ((lambda name: get_adapter().clean_username(name, shallow=True), values["username"]), (validate_email, values["email"])):
        try:
            check(value)
        except ValidationError as error:
            line.problems += error.messages
    if values["role"] and values["role"] not in Role.values:
        line.problems.append(_("There is no role “%(role)s”, but %(roles)s.") % {"role": values["role"], "roles": ", ".join(Role.values)})
    elif values["role"] == Role.STAFF and (why := roles.staff_refusal(acting_user)):
        line.problems.append(why)


def _judge_together(lines: Iterable[Line]) -> None:
    """The first of two with the same name or address may stay."""
    seen: dict[tuple[str, str], int] = {}
    for line in lines:
        for name in NEEDED:
            value = line.values[name].casefold()
            first = seen.setdefault((name, value), line.number) if value else line.number
            if first != line.number:
                line.problems.append(_("%(column)s is in line %(number)d already.") % {"column": name, "number": first})


def _judge_against_those_here(lines: Sequence[Line]) -> None:
    good = [line for line in lines if not line.problems]
    here = {user.username.lower(): user for user in in_portions(User.objects.all(), "username", [line.values["username"] for line in good])}
    addresses = taken_addresses([line.values["email"] for line in good])
    elsewhere = {identity.name.lower() for identity in in_portions(Identity.objects.all(), "name", [line.values["username"] for line in good])}
    claimed = in_portions(EmailAddress.objects.filter(verified=False), "email", [line.values["email"] for line in good])
    claims = {(row.user_id, row.email.lower()) for row in claimed}
    for line in good:
        username, email = line.values["username"].lower(), line.values["email"]
        line.person = here.get(username)
        if line.person is not None:
            if line.person.email.lower() != email:
                line.problems.append(_("Somebody else has this user name."))
                line.person = None
            elif not line.person.is_active:
                line.problems.append(_("This account is closed."))
            elif (line.person.pk, email) in claims and line.person.email_given.lower() != email:  # anybody may have typed it
                line.problems.append(_("Somebody signed up with this name and never confirmed the address. Confirm it on their page, or remove the account."))
        elif username in elsewhere:
            line.problems.append(_("This is the name of somebody who signs in with an account of another system."))
        elif email in addresses:
            line.problems.append(_("Somebody else has this address."))


def _ask_directory(lines: Sequence[Line]) -> None:
    """What is in the university directory is left to it. Never inside a transaction: it may take its time."""
    new = [line for line in lines if line.is_new]
    if directory.client() is None:
        return
    if len(new) > MOST_WITH_DIRECTORY:
        most = {"most": MOST_WITH_DIRECTORY}
        raise ImportRefused(_("The university directory is asked about each new name: take in at most %(most)d new people at once.") % most)
    end = time.monotonic() + _PATIENCE
    try:
        for start in range(0, len(new), _ASKED_AT_ONCE):
            for line in _held(new[start : start + _ASKED_AT_ONCE], end):
                line.problems.append(_("The university directory has this name or address: whoever it is signs in with it."))
    except DirectoryError as error:
        raise ImportRefused(_("The university directory does not answer, so nobody can be looked up in it. Try again in a few minutes.")) from error


def _held(lines: Sequence[Line], end: float) -> Iterator[Line]:
    """Those whose name or address the directory has. It has none of a good list, which is one question; otherwise the
    list is halved until it is known whose. Raises DirectoryError, and ImportRefused where it is not done at `end`."""
    if time.monotonic() > end:
        raise ImportRefused(_("The university directory takes too long to answer. Take in fewer people at once."))
    if not directory.holds_any([line.values[name] for line in lines for name in NEEDED]):
        return
    if len(lines) == 1:
        yield lines[0]
        return
    half = len(lines) // 2
    yield from _held(lines[:half], end)
    yield from _held(lines[half:], end)


def _judge_classes(lines: Sequence[Line]) -> None:
    wanted = {line.values["class"] for line in lines if line.values["class"] and not line.problems}
    found = CLASSES[0].named(wanted) if CLASSES and wanted else {}
    in_class: dict[str, Collection[int]] = {}
    for name, lab_class in found.items():
        in_class[name] = CLASSES[0].students(lab_class, [line.person for line in lines if line.person is not None])
    for line in lines:
        name = line.values["class"]
        if not name or line.problems:
            continue
        if name not in found:
            line.problems.append(_("There is no class “%(name)s”, or there are several.") % {"name": name})
            continue
        line.lab_class = found[name]
        line.joins = line.person is None or line.person.pk not in in_class[name]


# -- taking in -------------------------------------------------------------------------------------


def take_in(text: str, *, acting_user: User) -> Done:
    """Do what `judge` says, all of it or nothing. Done again, it finds everybody here and changes nothing. Raises
    ImportRefused where a line has a problem, also one that came up meanwhile."""
    _refuse_bad(judge(text, acting_user=acting_user))
    try:
        with transaction.atomic():
            return _take_in(_judged(text, acting_user), acting_user)
    except IntegrityError as error:
        raise ImportRefused(_("Somebody was added meanwhile. Look at the list again.")) from error


def _refuse_bad(lines: Iterable[Line]) -> None:
    if bad := [line.number for line in lines if line.problems]:
        some = ", ".join(str(number) for number in bad[:10])
        raise ImportRefused(_("Nothing was taken in. There are problems in these lines: %(lines)s.") % {"lines": some})


def _take_in(lines: Sequence[Line], acting_user: User) -> Done:
    _refuse_bad(lines)
    new = []
    joining: dict[Any, list[User]] = {}
    for line in lines:
        if line.person is None:
            names = {name: line.values[name] for name in ("username", "email", "first_name", "last_name")}
            line.person = User(**names, role=line.role)
            new.append(line.person)
    mails = people.make(new, acting_user=acting_user)
    for line in lines:
        if line.joins and line.person is not None:
            joining.setdefault(line.lab_class, []).append(line.person)
    for lab_class, students in sorted(joining.items(), key=lambda joined: joined[0].pk):  # each is locked: two lists at once in one order
        CLASSES[0].enrol(lab_class, students, acting_user=acting_user)
    done = Done(made=len(new), unchanged=len(lines) - len(new), enrolled=sum(map(len, joining.values())), mails=mails)
    if new or joining:
        audit.record("user.import", acting_user=acting_user, target_name=_("%(count)d people") % {"count": len(lines)}, **asdict(done))
    return done
