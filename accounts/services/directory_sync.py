"""Everybody of the university directory is looked up once a night: names, roles and groups follow it, and whoever has
gone is deactivated. Their machines stay until staff decide.

A directory that does not answer, or tells only half, must not put a university out: nobody is deactivated, and nobody
loses a role or their last group, where it stops answering on the way, or where more people would at once than ever do
in a night. A server that lets the portal read groups no more answers as if there were none.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.directory.config import DirectoryConfig
from accounts.directory.types import DirectoryError, Entry, Unreachable
from accounts.models import DIRECTORY, DirectorySync, Identity, Role

from . import audit, directory, identities, people, roles

if TYPE_CHECKING:
    from accounts.directory.client import Directory

log = logging.getLogger(__name__)

AT_ONCE = 50  # identities read from the database at a time; the lease is renewed as often
LEASE = timedelta(minutes=5)  # outlives twice as many look-ups in a directory that hangs at each
SILENT = 3  # people in a row of whom it says nothing, asked twice: it is down
AGAIN = timedelta(hours=1)  # after a sync that the directory broke off
KEPT = timedelta(days=400)
# So many may be deactivated or lose something by one sync, or this part of all if that is more; so many may be unclear.
FEW, PART = 10, 0.2
GROUPS = "groups"  # what people may have of the directory, beside a role


class Outcome(StrEnum):
    OK = "ok"
    UNREACHABLE = "unreachable"  # the directory did not answer, or with what makes no sense; who was read before that is up to date
    REFUSED = "refused"  # nobody is deactivated or loses anything: what the directory says is not believed
    TAKEN_OVER = "taken_over"  # another process goes on


class Found(StrEnum):
    """What the directory says of one identity."""

    PRESENT = "present"
    GONE = "gone"  # nobody has this id, or whoever has it may not sign in here
    DISABLED = "disabled"
    UNKNOWN = "unknown"  # something about it cannot be read, or cannot be written here


@dataclass
class Report:
    """`closed`: user names of those who are deactivated, or would be; `lowered`: of those who lose a role or their last
    group; `silent`: how many in a row the directory last said nothing of."""

    outcome: Outcome = Outcome.OK
    found: Counter[Found] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)
    lowered: list[str] = field(default_factory=list)
    problem: str = ""
    silent: int = 0


@dataclass
class _Tally:
    """What is to be judged before it is done. By primary keys and user names: it may be about everybody."""

    active: int = 0
    leaving: dict[int, str] = field(default_factory=dict)
    losing: dict[int, str] = field(default_factory=dict)
    # How many have a role, or groups, of the directory, as it was last read; how many of them lose it; and how many have groups now.
    had: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    grouped: int = 0


def sync(*, dry_run: bool = False, however_many: bool = False, goes_on: Callable[[], bool] = lambda: True) -> Report:
    """Look everybody up, and settle at once whoever loses nothing; the others when it is known how many they are. With
    `dry_run` nothing is changed; with `however_many` any number is deactivated or loses something. `goes_on` says, now
    and then, whether to. Waits for the directory: call it outside transactions and where time does not matter."""
    client = directory.client()
    assert client is not None
    report, tally = Report(), _Tally()
    try:
        for page in _pages():
            if not goes_on():
                report.outcome = Outcome.TAKEN_OVER
                return report
            for identity in page:
                found = Found.UNKNOWN
                with _one_of_many(identity, report):
                    found = _look_and_settle(identity, client, report, tally, dry_run=dry_run)
                report.found[found] += 1
            _stop_if_unclear(report, FEW)
        _stop_if_unclear(report, 0 if not report.found[Found.PRESENT] else FEW)
        report.closed, report.lowered = list(tally.leaving.values()), list(tally.losing.values())
        if not however_many and (why := _not_to_be_believed(report, tally)):
            report.outcome, report.problem = Outcome.REFUSED, why
            log.error("the directory is not believed, nobody is deactivated and nobody loses anything: %s", why)
        elif not dry_run:
            if not _lower(list(tally.losing), client, report, goes_on):
                report.outcome = Outcome.TAKEN_OVER
                return report
            report.closed = [name for pk, name in tally.leaving.items() if _closed(pk, name, report)]
    except Unreachable as error:
        report.outcome, report.problem = Outcome.UNREACHABLE, error.detail or error.message
        log.error("the directory was not synchronised: %s", report.problem)
    if not dry_run:
        done = report.outcome is Outcome.OK
        counts = {str(found): number for found, number in report.found.items()}
        audit.record(
            "directory.sync", acting_user=None, outcome=report.outcome, found=counts,
            deactivated=len(report.closed) if done else 0, lowered=len(report.lowered) if done else 0, problem=report.problem[:500],
        )  # fmt: skip
    return report


@contextmanager
def _one_of_many(who: object, report: Report) -> Iterator[None]:
    """What goes wrong with one person, a deadlock, or an entry that nobody foresaw, keeps nobody else from being looked
    at. Lets Unreachable through."""
    try:
        yield
    except Unreachable:
        raise
    except Exception as error:
        report.problem = f"{who}: {type(error).__name__}"
        log.exception("%s stays as they are in the portal", who)


def _look_and_settle(identity: Identity, client: "Directory", report: Report, tally: _Tally, *, dry_run: bool) -> Found:
    """Raises Unreachable."""
    found, entry = _look(identity, client, report)
    tally.active += identity.user.is_active
    had = _has(identity)
    tally.had.update(had)
    if entry is not None and found is Found.PRESENT:
        tally.grouped += bool(entry.groups)
        lost = [what for what in had if _loses(what, identity, entry, client.config)]
        tally.lost.update(lost)
        if lost:
            tally.losing[identity.pk] = identity.user.get_username()
        elif not dry_run:
            identities.settle_entry(entry, client.config, at_sign_in=False)
    elif found in (Found.GONE, Found.DISABLED):
        if not dry_run:
            _note_missing(identity, found)
        if _is_to_be_closed(identity, found):
            tally.leaving[identity.pk] = identity.user.get_username()
            tally.lost.update(what for what in had if what != GROUPS)  # leaving takes people out of their groups every term
    return found


def _has(identity: Identity) -> list[str]:
    """What this person has because the directory said so: a role above a student's, groups."""
    user = identity.user
    if not user.is_active:
        return []
    role = [identity.role_given] if identity.role_given == user.role != Role.STUDENT and not user.is_superuser else []
    return role + ([GROUPS] if identity.groups else [])


def _loses(what: str, identity: Identity, entry: Entry, config: DirectoryConfig) -> bool:
    if what == GROUPS:
        return not entry.groups
    given = config.role_of(entry.groups)
    return roles.is_less(roles.after(identity, Role(given) if given else None), what)


def _note_missing(identity: Identity, found: Found) -> None:
    with transaction.atomic():
        if Identity.objects.filter(pk=identity.pk, missing_since=None).update(missing_since=timezone.now()):
            audit.record("identity.missing", acting_user=None, target=identity.user, source=identity.source, name=identity.name, found=found)


def _lower(pks: list[int], client: "Directory", report: Report, goes_on: Callable[[], bool]) -> bool:
    """Settle those who lose something, as the directory has them at this moment. False where another process goes on.
    Raises Unreachable."""
    for start in range(0, len(pks), AT_ONCE):
        if not goes_on():
            return False
        for identity in Identity.objects.filter(pk__in=pks[start : start + AT_ONCE]).select_related("user").order_by("pk"):
            with _one_of_many(identity, report):
                found, entry = _look(identity, client, report)
                if entry is not None and found is Found.PRESENT:
                    identities.settle_entry(entry, client.config, at_sign_in=False)
    return True


def run_if_due() -> Report | None:
    """The nightly sync, from DIRECTORY_SYNC_HOUR on, by one process. None where it is not due, or is another's."""
    now = timezone.localtime(timezone=timezone.get_default_timezone())
    if settings.DIRECTORY is None or now.hour < settings.DIRECTORY_SYNC_HOUR:
        return None
    lease = uuid.uuid4().hex
    if not _take(now.date(), lease):
        return None
    ours = DirectorySync.objects.filter(day=now.date(), lease=lease)
    report = sync(goes_on=lambda: bool(ours.update(lease_until=timezone.now() + LEASE)))
    if report.outcome is Outcome.UNREACHABLE:
        ours.update(lease_until=timezone.now() + AGAIN)
    else:
        ours.update(finished_at=timezone.now())
    return report


def _take(day: date, lease: str) -> bool:
    """Whether the sync of this day is ours to do: nobody did it, and nobody is at it."""
    now = timezone.now()
    row = DirectorySync.objects.filter(day=day).first()
    if row is None:
        DirectorySync.objects.filter(day__lt=day - KEPT).delete()
        try:
            with transaction.atomic():
                DirectorySync.objects.create(day=day, lease=lease, lease_until=now + LEASE)
        except IntegrityError:
            return False  # another process was quicker
        return True
    if row.finished_at is not None or row.lease_until > now:
        return False
    return bool(DirectorySync.objects.filter(pk=row.pk, lease=row.lease, finished_at=None).update(lease=lease, lease_until=now + LEASE))


def _pages() -> Iterator[list[Identity]]:
    """Those of the directory, without whom staff deactivated."""
    rows = Identity.objects.filter(Q(user__is_active=True) | Q(closed_at__isnull=False), source=DIRECTORY).select_related("user").order_by("pk")
    last = 0
    while page := list(rows.filter(pk__gt=last)[:AT_ONCE]):
        yield page
        last = page[-1].pk


def _look(identity: Identity, client: "Directory", report: Report) -> tuple[Found, Entry | None]:
    """What is unclear is said in the report. One of whom nothing is said in time, twice, is unclear as well: an entry
    that always takes too long must not end every sync. Raises Unreachable where that happens to several in a row."""
    try:
        try:
            entry = client.by_uid(identity.uid)
        except Unreachable:
            entry = client.by_uid(identity.uid)
    except DirectoryError as error:
        report.problem = error.detail or error.message
        report.silent = report.silent + 1 if isinstance(error, Unreachable) else 0
        if report.silent == SILENT:
            raise
        log.warning("the directory does not tell of %s: %s", identity, report.problem)
        return Found.UNKNOWN, None
    report.silent = 0
    if entry is None:
        return Found.GONE, None
    return Found.DISABLED if entry.disabled else Found.PRESENT if client.config.admits(entry) else Found.GONE, entry


def _stop_if_unclear(report: Report, few: int) -> None:
    """Raises Unreachable where more is unclear than happens to single entries: settings are wrong, or the portal may
    not read any more."""
    unclear = report.found[Found.UNKNOWN]
    if unclear > few and unclear > PART * report.found.total():
        raise Unreachable("The directory does not tell of too many people.", report.problem)


def _not_to_be_believed(report: Report, tally: _Tally) -> str:
    """Why nobody is deactivated and nobody loses anything, or nothing."""
    if len(tally.leaving) > _most(tally.active):
        return f"{len(tally.leaving)} of {tally.active} people would be deactivated, more than {_most(tally.active)}"
    if tally.leaving and not report.found[Found.PRESENT] and not report.found[Found.DISABLED]:
        return "it finds nobody at all"
    for what, lost in tally.lost.items():
        if lost > _most(tally.had[what]):
            loss = "be in no group any more" if what == GROUPS else f"be {what} no more"
            return f"{lost} of {tally.had[what]} people would {loss}, more than {_most(tally.had[what])}"
    if len(tally.losing) > 1 and not tally.grouped:
        return f"nobody would be in any group, and {len(tally.losing)} people were"
    return ""


def _most(of: int) -> int:
    return max(FEW, int(PART * of))


def _is_to_be_closed(identity: Identity, found: Found) -> bool:
    """At once whom the directory disabled; who is only not found, when they were not found before. Not whom staff let
    in again since. A superuser was made on the server itself, and stays for whoever rules that to decide."""
    user = identity.user
    if not user.is_active or identity.closed_at is not None:
        return False
    if user.is_superuser:
        log.warning("%s has left the directory, and stays as a superuser", user.get_username())
        return False
    return found is Found.DISABLED or identity.missing_since is not None


def _closed(pk: int, name: str, report: Report) -> bool:
    with _one_of_many(name, report):
        return _close(pk)
    return False


def _close(pk: int) -> bool:
    """Deactivate the person of this identity. False where they signed in meanwhile, were deactivated, or are the last who runs the portal."""
    with transaction.atomic():
        roles.hold_staff()
        identity = identities.hold(pk)
        user = identity.user
        if identity.missing_since is None or not user.is_active:
            return False
        if why := roles.indispensable(user):
            log.error("%s has left the directory, and stays: %s", user.get_username(), why)
            return False
        identity.closed_at = timezone.now()
        identity.save(update_fields=["closed_at"])
        people.close(user, acting_user=None)
        audit.record("user.left", acting_user=None, target=user, source=identity.source, name=identity.name, since=identity.missing_since.isoformat())
    identities.tell_groups(user)
    return True
