"""Where people are signed in: each browser has a session, and beside it a row that says from where."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from allauth.usersessions.models import UserSession
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from accounts.models import User

from . import audit

MOST = 50  # browsers in which one person is signed in; signing in anywhere takes no more than a few queries

# The first that fits names it: those built on another one's engine come before that one.
_BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("Vivaldi/", "Vivaldi"), ("SamsungBrowser/", "Samsung Internet"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"), ("Chromium/", "Chromium"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"), ("python-", "Python"),
)  # fmt: skip
_SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("CrOS", "ChromeOS"), ("Windows", "Windows"), ("Macintosh", "macOS"), ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"), ("OpenBSD", "OpenBSD"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SignedIn:
    """One browser in which a person is signed in."""

    pk: int
    device: str
    address: str
    since: datetime
    seen_at: datetime
    is_this: bool


def device(user_agent: str) -> str:
    """“Firefox on Windows”, as far as the browser says so; it may say anything."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or re.sub(r"[^\x20-\x7e]", "", user_agent)[:40] or _("An unknown browser")


def of_person(user: User, *, this: str | None = None) -> list[SignedIn]:
    """Where `user` is signed in, the browser with the session key `this` first, then the one seen last. Two queries."""
    rows = {row.session_key: row for row in _newest_first(user)[:MOST]}
    found = [
        SignedIn(row.pk, device(row.user_agent), row.ip, row.created_at, row.last_seen_at, is_this=row.session_key == this)
        for row in map(rows.__getitem__, _living(user, rows.keys()))
    ]
    return sorted(found, key=lambda signed_in: (not signed_in.is_this, -signed_in.seen_at.timestamp()))


def end(user: User, pk: int, *, acting_user: User) -> bool:
    """Sign `user` out where the row `pk` of `of_person` says; False where they are not signed in there."""
    with transaction.atomic():
        row = UserSession.objects.filter(user=user, pk=pk).first()
        if row is None:
            return False
        ended = _end([row])
        audit.record("session.end", acting_user=acting_user, target=user, device=device(row.user_agent), from_address=row.ip)
    return bool(ended)


def end_all(user: User, *, acting_user: User | None, but: str | None = None) -> int:
    """Sign `user` out everywhere, except in the session with the key `but`. Open consoles and pages of those
    sessions end as soon as their process looks at them again (accounts.presence). Returns how many were ended."""
    with transaction.atomic():
        ended = _end(UserSession.objects.filter(user=user).exclude(session_key=but or ""))
        audit.record("session.end_all", acting_user=acting_user, target=user, count=ended)
    return ended


def end_oldest(user: User) -> None:
    """Sign `user` out where they were seen longest ago, so that MOST are left."""
    with transaction.atomic():
        if ended := _end(_newest_first(user)[MOST:]):
            audit.record("session.end_oldest", acting_user=user, target=user, count=ended)


def _newest_first(user: User) -> QuerySet[UserSession]:
    rows: QuerySet[UserSession] = UserSession.objects.filter(user=user).order_by("-last_seen_at", "-pk")
    return rows


def _end(rows: Iterable[UserSession]) -> int:
    """Returns how many were living sessions."""
    keys = [row.session_key for row in rows]
    ended, _of_what = Session.objects.filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    return ended


def _living(user: User, keys: Collection[str]) -> list[str]:
    """Those of `keys` with which a request would still be this person's: not over, and of their present password."""
    hashed, living = user.get_session_auth_hash(), []
    for session in Session.objects.filter(session_key__in=list(keys), expire_date__gt=timezone.now()):
        data = session.get_decoded()
        if data.get(SESSION_KEY) == str(user.pk) and constant_time_compare(data.get(HASH_SESSION_KEY, ""), hashed):
            living.append(session.session_key)
    return living
