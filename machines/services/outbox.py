"""Mails about requests. Written in the transaction of what they tell, sent outside of any: none is
lost when the mail server is away, and no page and no decision waits for it.

A mail is claimed before it is sent and marked after; only a process that dies in between lets it
be sent again.
"""

import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F, Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation

from accounts import mail
from accounts.models import Role, User
from accounts.services import preferences
from machines.models import MachineRequest, RequestMail

log = logging.getLogger(__name__)

ATTEMPTS = 20
CLAIMED = timedelta(minutes=5)  # longer than a mail server may take
KEPT = timedelta(days=30)
_REMINDERS = {"ending", "ended"}  # of a machine's last day; all others tell what became of a request
_AT_ONCE = 20
_MOST_STAFF = 50
_LONGEST_BACK_OFF = timedelta(hours=6)


def post(request: MachineRequest, what: str) -> None:
    """Write the mail `what` (templates/machines/mail) to the person who asked, unless they want none or the portal sends none."""
    person = request.requester
    wanted = person.mail_reminders if what in _REMINDERS else person.mail_decisions
    _write(request, what, [person] if person.is_active and person.email and wanted else [])


def post_to_staff(request: MachineRequest, what: str) -> None:
    """The same to staff who want it."""
    staff = User.objects.filter(Q(role=Role.STAFF) | Q(is_superuser=True), is_active=True, mail_staff=True).exclude(email="")
    _write(request, what, staff.order_by("pk")[:_MOST_STAFF])


def send_due(clusters: Collection[int]) -> int:
    """Send what is due about machines of these clusters: each is in the hands of one watcher.
    Returns how many were sent."""
    due = RequestMail.objects.filter(sent_at=None, attempts__lt=ATTEMPTS, not_before__lte=timezone.now(), request__template__cluster__in=clusters)
    return sum(_send(letter) for letter in due[:_AT_ONCE])


def trim() -> None:
    """Forget what was sent long ago, or never will be."""
    RequestMail.objects.filter(created_at__lt=timezone.now() - KEPT).filter(~Q(sent_at=None) | Q(attempts__gte=ATTEMPTS)).delete()


def _write(request: MachineRequest, what: str, people: Iterable[User]) -> None:
    """To each in their language and with times of their zone."""
    if not mail.is_sent():
        return
    machine = request.machine
    context = {
        "asked": request,
        "machine": machine,
        "portal_name": settings.PORTAL_NAME,
        "request_url": settings.SITE_URL + reverse("machines:request", args=[request.key]),
        "machine_url": settings.SITE_URL + reverse("machines:machine", args=[machine.key]) if machine is not None else "",
        "admin_url": settings.SITE_URL + reverse("admin:machines_machinerequest_change", args=[request.pk]),
    }
    now, letters = timezone.now(), []
    for person in people:
        with translation.override(settings.LANGUAGE_CODE), preferences.of(person):
            subject, _blank, body = render_to_string(f"machines/mail/{what}.txt", context).strip().partition("\n")
        subject = f"[{settings.PORTAL_NAME}] {subject.strip()}"[:200]
        letters.append(RequestMail(request=request, to=person.email, subject=subject, body=body.strip() + "\n", not_before=now))
    RequestMail.objects.bulk_create(letters)


def _send(letter: RequestMail) -> bool:
    now = timezone.now()
    claimed = RequestMail.objects.filter(pk=letter.pk, sent_at=None, attempts=letter.attempts, not_before__lte=now)
    if not claimed.update(attempts=F("attempts") + 1, not_before=now + CLAIMED):
        return False  # somebody else has it in hand
    mine = RequestMail.objects.filter(pk=letter.pk)
    try:
        send_mail(letter.subject, letter.body, settings.DEFAULT_FROM_EMAIL, [letter.to])
    except (OSError, SMTPException, ValueError) as error:
        back_off = min(_LONGEST_BACK_OFF, timedelta(seconds=30) * 2**letter.attempts)
        mine.update(problem=str(error)[:300], not_before=timezone.now() + back_off)
        last = letter.attempts + 1 >= ATTEMPTS
        log.log(logging.ERROR if last else logging.WARNING, "mail %d about request %d was not sent: %s", letter.pk, letter.request_id, error)
        return False
    mine.update(sent_at=timezone.now(), problem="")
    return True
