"""Mails that wait in the database: asked for in the transaction of what they tell, sent outside of any by the watcher. None
is lost when the mail server is away, and no page, no decision and no thousand new people wait for it. What somebody asks
for themselves in the pages of allauth is sent at once, by allauth.

A mail is claimed before it is sent and marked after; only a process that dies in between lets it be sent again.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from smtplib import SMTPException
from typing import Any, TypeVar

from allauth.account import app_settings
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F, Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from accounts import mail
from accounts.models import Letter, Notice, PasswordLetter, User, WrittenLetter
from accounts.selectors import staff_who_read_mail

from . import audit, preferences

log = logging.getLogger(__name__)

ATTEMPTS = 20
_CLAIMED = timedelta(minutes=5)  # longer than a mail server may take
_KEPT = timedelta(days=30)
_AT_ONCE = 20
_STAFF_ARE_TOLD_EVERY = timedelta(days=1)
_LONGEST_BACK_OFF = timedelta(hours=6)

Text = tuple[str, str]  # subject and body
_Sendable = TypeVar("_Sendable", bound=PasswordLetter | WrittenLetter)


def post(user: User) -> bool:
    """Have a mail with a link to choose a password sent. False where none goes out: the portal sends no mail, or the person
    has no address. One that waits is not doubled."""
    if not mail.is_sent() or not user.email:
        return False
    PasswordLetter.objects.filter(user=user, sent_at=None).delete()
    PasswordLetter.objects.create(user=user, not_before=timezone.now())
    return True


def welcome(users: Collection[User]) -> int:
    """Have one sent to each of these new people. Returns how many go out."""
    now = timezone.now()
    due = [PasswordLetter(user=user, welcome=True, not_before=now) for user in users if user.email and mail.is_sent()]
    return len(PasswordLetter.objects.bulk_create(due))


def notify(user: User, template: str, context: dict[str, Any] | None = None, *, to: str = "") -> None:
    """Have somebody told of what befell their account by a mail of accounts/mail, at `to` instead of their address where it is given."""
    _post_notices([user], template, {"user": user} | (context or {}), to=to)


def notify_staff(template: str, context: dict[str, Any], *, about: User) -> None:
    """Have staff told what somebody wishes: once a day, however often it is wished."""
    if not Notice.objects.filter(about=about, created_at__gt=timezone.now() - _STAFF_ARE_TOLD_EVERY).exists():
        _post_notices(staff_who_read_mail(), template, context, about=about)


def withdraw_from_staff(about: User) -> None:
    """What still waits to be sent to staff about this person is true no more."""
    Notice.objects.filter(about=about, sent_at=None).delete()


def _post_notices(people: Iterable[User], template: str, context: dict[str, Any], *, to: str = "", about: User | None = None) -> None:
    now = timezone.now()
    reached = [user for user in people if to or user.email]
    texts = written(reached, f"accounts/mail/{template}.txt", context)
    Notice.objects.bulk_create(
        Notice(user=user, about=about, to=to or user.email, subject=subject, body=body, not_before=now) for user, (subject, body) in texts
    )


def written(readers: Iterable[User], template: str, context: dict[str, Any]) -> Iterator[tuple[User, Text]]:
    """For each of them a mail whose first line is the subject, in their language and with times of their zone; none where
    the portal sends none. What is to be said in that language too comes as a function."""
    texts: dict[tuple[str, str], Text] = {}  # each written once, however many read it
    for reader in readers if mail.is_sent() else ():
        reads = (reader.language, reader.time_zone)
        if reads not in texts:
            texts[reads] = _written(reader, template, context)
        yield reader, texts[reads]


def _written(reader: User, template: str, context: dict[str, Any]) -> Text:
    context = {"portal_name": settings.PORTAL_NAME, "portal_url": settings.SITE_URL} | context
    with override(settings.LANGUAGE_CODE), preferences.of(reader):
        subject, _blank, body = render_to_string(template, context).strip().partition("\n")
    return f"[{settings.PORTAL_NAME}] {subject.strip()}"[:200], body.strip() + "\n"


def password_link(user: User) -> str:
    """Where whoever has the link chooses this person's password: once, and within PASSWORD_RESET_TIMEOUT."""
    key = app_settings.PASSWORD_RESET_TOKEN_GENERATOR().make_token(user)
    return str(settings.SITE_URL) + reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": key})


def on_password_reset(user: User, **_: Any) -> None:
    """Somebody chose a password by a link. Where they have one address, the link went there, so it is theirs."""
    [address, *others] = EmailAddress.objects.filter(user=user)[:2] or [None]
    if address is None or others or address.verified or address.email.lower() != user.email.lower():
        return
    if address.set_verified():
        audit.record("user.address_confirmed", acting_user=user, target=user, email=address.email)


# -- sending -----------------------------------------------------------------------------------------


def send_due() -> int:
    """Send what is due about accounts; returns how many were sent. Any number of processes may do so."""
    return send(PasswordLetter.objects.select_related("user")) + send(Notice.objects.select_related("user"))


def send(letters: QuerySet[_Sendable]) -> int:
    """Send those of `letters` that are due; returns how many were sent. Any number of processes may do so."""
    due = letters.filter(sent_at=None, attempts__lt=ATTEMPTS, not_before__lte=timezone.now()).order_by("id")
    return sum(_send(letter) for letter in due[:_AT_ONCE])


def trim() -> None:
    """Forget mails about accounts of long ago."""
    for kind in (PasswordLetter, Notice):
        forget(kind)


def forget(kind: type[Letter]) -> None:
    """Forget what was sent long ago, or never will be."""
    old = kind._default_manager.filter(created_at__lt=timezone.now() - _KEPT)
    old.filter(~Q(sent_at=None) | Q(attempts__gte=ATTEMPTS)).delete()


def _send(letter: PasswordLetter | WrittenLetter) -> bool:
    now = timezone.now()
    mine = type(letter)._default_manager.filter(pk=letter.pk)
    if not mine.filter(sent_at=None, attempts=letter.attempts, not_before__lte=now).update(attempts=F("attempts") + 1, not_before=now + _CLAIMED):
        return False  # somebody else has it in hand
    if not _is_still_meant(letter):
        mine.delete()
        return False
    to, (subject, body) = (letter.to, (letter.subject, letter.body)) if isinstance(letter, WrittenLetter) else (letter.user.email, _with_link(letter))
    try:
        send_mail(subject, body, settings.DEFAULT_FROM_EMAIL, [to])
    except (OSError, SMTPException, ValueError) as error:
        back_off = min(_LONGEST_BACK_OFF, timedelta(seconds=30) * 2**letter.attempts)
        mine.update(problem=str(error)[:300], not_before=timezone.now() + back_off)
        last = letter.attempts + 1 >= ATTEMPTS
        log.log(logging.ERROR if last else logging.WARNING, "mail %d (%s) was not sent: %s", letter.pk, letter._meta.model_name, error)
        return False
    mine.update(sent_at=timezone.now(), problem="")
    return True


def _is_still_meant(letter: PasswordLetter | WrittenLetter) -> bool:
    """Accounts are closed and people stop being staff while mails wait."""
    if isinstance(letter, PasswordLetter):
        return letter.user.is_active and bool(letter.user.email)
    return not isinstance(letter, Notice) or letter.about_id is None or letter.user.runs_portal


def _with_link(letter: PasswordLetter) -> Text:
    user, template = letter.user, "welcome" if letter.welcome else "password"
    context = {"user": user, "link": password_link(user), "days": settings.PASSWORD_RESET_TIMEOUT // 86400}
    return _written(user, f"accounts/mail/{template}.txt", context)
