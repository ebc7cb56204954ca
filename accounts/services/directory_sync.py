"""Everybody of the university directory is looked up once a night: names, roles and groups follow it, and whoever has
gone is deactivated. Their machines stay until staff decide.

A directory that does not answer, or tells only half, must not put a university out: nobody is deactivated where it
stops answering on the way, or where more people would go at once than ever leave in a night.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.directory.types import Entry, Misconfigured, Unreachable
from accounts.models import DIRECTORY, DirectorySync, Identity

from . import audit, directory, identities, roles, sessions, tokens

if TYPE_CHECKING:
    from accounts.directory.client import Directory

log = logging.getLogger(__name__)

AT_ONCE = 50  # identities read from the database at a time; the lease is renewed as often
LEASE = timedelta(minutes=5)  # outlives as many look-ups in a directory that hangs at each
AGAIN = timedelta(hours=1)  # after a sync that the directory broke off
KEPT = timedelta(days=400)
# So many may be deactivated by one sync, or this part of all if that is more; so many may be unclear.
FEW, PART = 10, 0.2


class Outcome(StrEnum):
    OK = "ok"
    UNREACHABLE = "unreachable"  # the directory did not answer, or with what makes no sense; who was read before that is up to date
    REFUSED = "refused"  # nobody is deactivated: what the directory says is not believed
    TAKEN_OVER = "taken_over"  # another process goes on


class Found(StrEnum):
    """What the directory says of one identity."""

    PRESENT = "present"
    GONE = "gone"  # nobody has this id, or whoever has it may not sign in here
    DISABLED = "disabled"
    UNKNOWN = "unknown"  # something about it cannot be read


@dataclass
class Report:
    """`closed`: user names of those who are deactivated, or would be."""

    outcome: Outcome = Outcome.OK
    found: Counter[Found] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)
    problem: str = ""


def sync(*, dry_run: bool = False, however_many: bool = False, goes_on: Callable[[], bool] = lambda: True) -> Report:
    """Look everybody up. With `dry_run` nothing is changed; with `however_many` any number is deactivated. `goes_on`
    says, now and then, whether to. Waits for the directory: call it outside transactions and where time does not matter."""
    client = directory.client()
    assert client is not None
    config, report, active = client.config, Report(), 0
    leaving: list[Identity] = []
    try:
        for page in _pages():
            if not goes_on():
                report.outcome = Outcome.TAKEN_OVER
                return report
            for identity in page:
                found, entry = _look(identity, client, report)
                active += identity.user.is_active
                if found in (Found.GONE, Found.DISABLED) and _is_to_be_closed(identity, found):
                    leaving.append(identity)
                if dry_run:
                    continue
                if entry is not None and found is Found.PRESENT:
                    identities.settle_entry(entry, config)
                elif found in (Found.GONE, Found.DISABLED):
                    Identity.objects.filter(pk=identity.pk, missing_since=None).update(missing_since=timezone.now())
            _stop_if_unclear(report, FEW)
        _stop_if_unclear(report, 0 if not report.found[Found.PRESENT] else FEW)
    except Unreachable as error:
        report.outcome, report.problem = Outcome.UNREACHABLE, error.detail or error.message
        log.error("the directory was not synchronised: %s", report.problem)
    else:
        why = "" if however_many else _not_to_be_believed(report, len(leaving), active)
        if why:
            report.outcome, report.problem = Outcome.REFUSED, why
            log.error("the directory is not believed, and nobody is deactivated: %s", why)
        report.closed = [identity.user.get_username() for identity in leaving]
    if not dry_run:
        if report.outcome is Outcome.OK:
            report.closed = [identity.user.get_username() for identity in leaving if _close(identity.pk)]
        counts = {str(found): number for found, number in report.found.items()}
        closed = len(report.closed) if report.outcome is Outcome.OK else 0
        audit.record("directory.sync", acting_user=None, outcome=report.outcome, found=counts, deactivated=closed, problem=report.problem[:500])
    return report


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
    """Raises Unreachable."""
    entry, found = None, Found.GONE
    try:
        entry = client.by_uid(identity.uid)
    except Misconfigured as error:
        report.problem, found = error.detail or error.message, Found.UNKNOWN
        log.warning("the directory does not tell of %s: %s", identity, report.problem)
    else:
        if entry is not None:
            found = Found.DISABLED if entry.disabled else Found.PRESENT if client.config.admits(entry) else Found.GONE
    report.found[found] += 1
    return found, entry


def _stop_if_unclear(report: Report, few: int) -> None:
    """Raises Unreachable where more is unclear than happens to single entries: settings are wrong, or the portal may
    not read any more."""
    unclear = report.found[Found.UNKNOWN]
    if unclear > few and unclear > PART * report.found.total():
        raise Unreachable("The directory does not tell of too many people.", report.problem)


def _not_to_be_believed(report: Report, leaving: int, active: int) -> str:
    """Why nobody is deactivated, or nothing."""
    most = max(FEW, int(PART * active))
    if leaving > most:
        return f"{leaving} of {active} people would be deactivated, more than {most}"
    if leaving and not report.found[Found.PRESENT] and not report.found[Found.DISABLED]:
        return "it finds nobody at all"
    return ""


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
        user.is_active = False
        user.save(update_fields=["is_active"])
        identity.closed_at = timezone.now()
        identity.save(update_fields=["closed_at"])
        sessions.end_all(user, acting_user=None)
        tokens.revoke_all(user, acting_user=None)
        audit.record("user.left", acting_user=None, target=user, source=identity.source, name=identity.name, since=identity.missing_since.isoformat())
    identities.tell_groups(user)
    return True
