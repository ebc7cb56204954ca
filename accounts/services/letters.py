"""Mails about accounts that staff cause: with a link by which somebody chooses a password, or of an address that is theirs
no more. Asked for in the transaction of what they belong to, sent outside of any by the watcher: a mail server that is
slow or away holds up nobody, and a thousand new people no page. All other mails about accounts are sent at once.
"""

import logging
from collections.abc import Collection
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

from allauth.account import app_settings
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from accounts import mail
from accounts.models import AddressLetter, PasswordLetter, User

from . import audit, preferences

log = logging.getLogger(__name__)

ATTEMPTS = 12
_CLAIMED = timedelta(minutes=5)  # longer than a mail server may take
_KEPT = timedelta(days=30)
_AT_ONCE = 20
_LONGEST_BACK_OFF = timedelta(hours=6)

_KINDS: tuple[type[PasswordLetter] | type[AddressLetter], ...] = (PasswordLetter, AddressLetter)


def post(user: User) -> bool:
    """Have the mail sent. False where none goes out: the portal sends no mail, or the person has no address. One that
    waits is not doubled."""
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


def tell_of_address(user: User, *, before: str) -> None:
    """Have the address that `user` had until now told that staff replaced it. Whoever reads mail there may be the
    person, whom somebody else locks out."""
    if before and mail.is_sent():
        AddressLetter.objects.create(user=user, to=before, not_before=timezone.now())


def send_due() -> int:
    """Send what is due; returns how many were sent. Any number of processes may do so."""
    sent = 0
    for kind in _KINDS:
        due = kind._default_manager.filter(sent_at=None, attempts__lt=ATTEMPTS, not_before__lte=timezone.now()).select_related("user").order_by("id")
        sent += sum(_send(letter) for letter in due[:_AT_ONCE])
    return sent


def password_link(user: User) -> str:
    """Where whoever has the link chooses this person's password: once, and within PASSWORD_RESET_TIMEOUT."""
    key = app_settings.PASSWORD_RESET_TOKEN_GENERATOR().make_token(user)
    return str(settings.SITE_URL) + reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": key})


def trim() -> None:
    """Forget mails of long ago."""
    for kind in _KINDS:
        kind._default_manager.filter(created_at__lt=timezone.now() - _KEPT).delete()


def on_password_reset(user: User, **_: Any) -> None:
    """Somebody chose a password by a link. Where they have one address, the link went there, so it is theirs."""
    [address, *others] = EmailAddress.objects.filter(user=user)[:2] or [None]
    if address is None or others or address.verified or address.email.lower() != user.email.lower():
        return
    if address.set_verified():
        audit.record("user.address_confirmed", acting_user=user, target=user, email=address.email)


def _send(letter: PasswordLetter | AddressLetter) -> bool:
    now, user = timezone.now(), letter.user
    mine = type(letter)._default_manager.filter(pk=letter.pk)
    if not mine.filter(sent_at=None, attempts=letter.attempts, not_before__lte=now).update(attempts=F("attempts") + 1, not_before=now + _CLAIMED):
        return False  # somebody else has it in hand
    context = {"user": user, "portal_name": settings.PORTAL_NAME, "portal_url": settings.SITE_URL}
    if isinstance(letter, AddressLetter):
        to, template = letter.to, "address_changed"
    elif user.is_active and user.email:
        to, template = user.email, "welcome" if letter.welcome else "password"
        context |= {"link": password_link(user), "days": settings.PASSWORD_RESET_TIMEOUT // 86400}
    else:
        mine.delete()
        return False
    with override(settings.LANGUAGE_CODE), preferences.of(user):
        text = render_to_string(f"accounts/mail/{template}.txt", context)
    subject, _blank, body = text.strip().partition("\n")
    try:
        send_mail(f"[{settings.PORTAL_NAME}] {subject.strip()}", body.strip() + "\n", settings.DEFAULT_FROM_EMAIL, [to])
    except (OSError, SMTPException, ValueError) as error:
        back_off = min(_LONGEST_BACK_OFF, timedelta(seconds=30) * 2**letter.attempts)
        mine.update(problem=str(error)[:300], not_before=timezone.now() + back_off)
        last = letter.attempts + 1 >= ATTEMPTS
        log.log(logging.ERROR if last else logging.WARNING, "mail %d (%s) was not sent: %s", letter.pk, template, error)
        return False
    mine.update(sent_at=timezone.now(), problem="")
    return True
