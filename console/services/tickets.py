"""Tickets: made for a page, used up by its WebSocket, looked at again while the console is open."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.http import Http404
from django.utils import timezone

from accounts.models import User
from accounts.presence import Visit, over
from accounts.services.audit import record
from console.endings import ENDINGS
from console.models import ConsoleTicket
from console.policies import obstacle
from machines.models import Machine
from machines.policies import access_machine, accessible
from machines.providers.types import ConsoleKind
from machines.selectors.display import can_connect
from machines.services.refusal import Refused

LIFE = timedelta(seconds=60)
PER_MINUTE = 60  # tickets a person may ask for; reconnecting asks for one each time
OPEN_AT_ONCE = 20  # consoles of one person
STALE = timedelta(seconds=45)  # an open console not looked at for so long has no relay any more
KEEP = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """`token` goes to the browser and nowhere else."""

    token: str
    expires_at: datetime


def refusal(code: str) -> Refused:
    return Refused(str(ENDINGS[code].text), code=code)


def issue(*, acting_user: User, machine: Machine, kind: ConsoleKind, view_only: bool = False) -> Issued:
    """A ticket for one console. The caller has checked that the person may see the machine.
    Raises Refused: machine_off, no_terminal, too_many."""
    if code := obstacle(machine, kind):
        raise refusal(code)
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        now = timezone.now()
        _sweep(now)
        lately = ConsoleTicket.objects.filter(user=acting_user, created_at__gt=now - timedelta(minutes=1))
        if lately.count() >= PER_MINUTE or _open(acting_user, now) >= OPEN_AT_ONCE:
            raise refusal("too_many")
        ticket = ConsoleTicket.objects.create(digest=_digest(token), user=acting_user, machine=machine, kind=kind, view_only=view_only, expires_at=now + LIFE)
    return Issued(token, ticket.expires_at)


def redeem(token: str, *, user: User, kind: ConsoleKind) -> ConsoleTicket:
    """Use the ticket up and open the record of the console. One of many that try at once succeeds.
    Raises Refused: ticket (unknown, used, expired, of somebody else, of another kind), revoked,
    machine_off, no_terminal, too_many (which were fewer when the ticket was made)."""
    with transaction.atomic():
        now = timezone.now()
        unused = ConsoleTicket.objects.filter(digest=_digest(token), user=user, kind=kind, used_at=None, expires_at__gt=now)
        if not unused.update(used_at=now, seen_at=now):
            raise refusal("ticket")
        # The person is locked, so that of two of their tickets the second counts the first.
        theirs = ConsoleTicket.objects.select_related("user", "machine").select_for_update(of=("user",), no_key=True)
        ticket = theirs.get(digest=_digest(token))
        code = _standing(ticket) or ("too_many" if _open(user, now) > OPEN_AT_ONCE else "")
        if code:
            ConsoleTicket.objects.filter(pk=ticket.pk).update(ended_at=now, ending=code)
        record("console.open", acting_user=user, target=ticket.machine, outcome=code or "ok", kind=str(kind), view_only=ticket.view_only)
    if code:
        raise refusal(code)
    return ticket


def review(visits: Mapping[int, Visit]) -> dict[int, str]:
    """Look again at open consoles: by its ticket's primary key, what each was let in by. Answers
    the codes of the endings that are due; the others are noted as seen."""
    out = over(visits.values())
    due = {pk: "signed_out" if visit in out else "revoked" for pk, visit in visits.items()}
    now = timezone.now()
    open_here = ConsoleTicket.objects.filter(pk__in=visits, ended_at=None)
    tickets_of: dict[User, list[ConsoleTicket]] = {}
    for ticket in open_here.select_related("user", "machine").defer("machine__password", "machine__ssh_private_key"):
        if due[ticket.pk] != "signed_out":
            tickets_of.setdefault(ticket.user, []).append(ticket)
    for user, theirs in tickets_of.items():
        allowed = accessible(user, [ticket.machine for ticket in theirs])
        for ticket in theirs:
            if ticket.machine_id in allowed:
                due[ticket.pk] = "" if can_connect(ticket.machine) else "machine_off"
    open_here.exclude(pk__in=[pk for pk, code in due.items() if code]).update(seen_at=now)
    return {pk: code for pk, code in due.items() if code}


def end(ticket: ConsoleTicket, code: str) -> None:
    """Close the record. A console that ended already keeps its first ending."""
    now = timezone.now()
    with transaction.atomic():
        if ConsoleTicket.objects.filter(pk=ticket.pk, ended_at=None).update(ended_at=now, ending=code):
            seconds = round((now - (ticket.used_at or now)).total_seconds())
            record("console.close", acting_user=ticket.user, target=ticket.machine, kind=ticket.kind, seconds=seconds, ending=code)


def _open(user: User, now: datetime) -> int:
    return ConsoleTicket.objects.filter(user=user, ended_at=None, seen_at__gt=now - STALE).count()


def _standing(ticket: ConsoleTicket) -> str:
    """Why the holder may not use this console (any more), "" when they may."""
    if not ticket.user.is_active:
        return "signed_out"
    try:
        ticket.machine = access_machine(ticket.user, ticket.machine.key)
    except Http404:
        return "revoked"
    return obstacle(ticket.machine, ConsoleKind(ticket.kind))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _sweep(now: datetime) -> None:
    """Remove tickets nobody used and records of consoles that ended long ago."""
    ConsoleTicket.objects.filter(Q(seen_at=None) | Q(seen_at__lt=now - KEEP), expires_at__lt=now - KEEP).delete()
