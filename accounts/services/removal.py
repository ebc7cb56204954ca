"""Asking to be removed. Staff decide: what a person has may still be needed by others."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from accounts import mail
from accounts.models import Role, User

from . import audit

log = logging.getLogger(__name__)

_MOST_STAFF = 50

# Apps above add what a person has there, in sentences for them and for staff.
HOLDINGS: list[Callable[[User], Iterable[str]]] = []


def holdings(user: User) -> list[str]:
    """What somebody has that goes with them, or waits for a decision first."""
    return [sentence for of_app in HOLDINGS for sentence in of_app(user)]


def ask(user: User) -> bool:
    """Put the wish down and tell staff; False where it was put down before."""
    with transaction.atomic():
        user.refresh_from_db(from_queryset=User.objects.select_for_update())
        if user.removal_asked_at is not None:
            return False
        user.removal_asked_at = timezone.now()
        user.save(update_fields=["removal_asked_at"])
        audit.record("user.removal_asked", acting_user=user, target=user)
        transaction.on_commit(partial(_tell_staff, user))
    return True


def take_back(user: User) -> bool:
    """False where there is no such wish."""
    with transaction.atomic():
        user.refresh_from_db(from_queryset=User.objects.select_for_update())
        if user.removal_asked_at is None:
            return False
        user.removal_asked_at = None
        user.save(update_fields=["removal_asked_at"])
        audit.record("user.removal_taken_back", acting_user=user, target=user)
    return True


def _tell_staff(user: User) -> None:
    """A mail server that is away loses nothing but the mail: the wish stands in the admin."""
    staff = User.objects.filter(Q(role=Role.STAFF) | Q(is_superuser=True), is_active=True, mail_staff=True).exclude(email="")
    addresses = list(staff.order_by("pk").values_list("email", flat=True)[:_MOST_STAFF])
    if not addresses or not mail.is_sent():
        return
    context = {
        "person": user,
        "portal_name": settings.PORTAL_NAME,
        "holdings": holdings(user),
        "admin_url": settings.SITE_URL + reverse("admin:accounts_user_change", args=[user.pk]),
    }
    with override(settings.LANGUAGE_CODE):  # staff read it, not who asked
        subject, _blank, body = render_to_string("accounts/mail/removal_asked.txt", context).strip().partition("\n")
    try:
        EmailMessage(f"[{settings.PORTAL_NAME}] {subject.strip()}"[:200], body.strip() + "\n", settings.DEFAULT_FROM_EMAIL, bcc=addresses).send()
    except (OSError, SMTPException, ValueError) as error:
        log.warning("staff were not told that user %d asks to be removed: %s", user.pk, error)
