"""Mails about requests. Written in the transaction of what they tell, sent outside of any (accounts.services.letters)."""

from collections.abc import Collection, Iterable

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from accounts.selectors import staff_who_read_mail
from accounts.services import letters
from machines.models import MachineRequest, RequestMail

_REMINDERS = {"ending", "ended"}  # of a machine's last day; all others tell what became of a request


def post(request: MachineRequest, what: str) -> None:
    """Write the mail `what` (templates/machines/mail) to the person who asked, unless they want none or the portal sends none."""
    person = request.requester
    wanted = person.mail_reminders if what in _REMINDERS else person.mail_decisions
    _write(request, what, [person] if person.is_active and person.email and wanted else [])


def post_to_staff(request: MachineRequest, what: str) -> None:
    """The same to staff who want it."""
    _write(request, what, staff_who_read_mail())


def send_due(clusters: Collection[int]) -> int:
    """Send what is due about machines of these clusters: each is in the hands of one watcher.
    Returns how many were sent."""
    return letters.send(RequestMail.objects.filter(request__template__cluster__in=clusters))


def trim() -> None:
    letters.forget(RequestMail)


def _write(request: MachineRequest, what: str, people: Iterable[User]) -> None:
    machine = request.machine
    context = {
        "asked": request,
        "machine": machine,
        "request_url": settings.SITE_URL + reverse("machines:request", args=[request.key]),
        "machine_url": settings.SITE_URL + reverse("machines:machine", args=[machine.key]) if machine is not None else "",
        "admin_url": settings.SITE_URL + reverse("admin:machines_machinerequest_change", args=[request.pk]),
    }
    now = timezone.now()
    RequestMail.objects.bulk_create(
        RequestMail(request=request, to=person.email, subject=subject, body=body, not_before=now)
        for person, (subject, body) in letters.written(people, f"machines/mail/{what}.txt", context)
    )
