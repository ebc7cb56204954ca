"""Machines people asked for, and the mails that tell them what became of it."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import WrittenLetter

from .cluster import Template, Tier
from .machine import Machine


class RequestState(models.TextChoices):
    PENDING = "pending", _("Waiting for a decision")
    APPROVED = "approved", _("Approved, being made")
    READY = "ready", _("Ready")
    FAILED = "failed", _("Could not be made")
    REJECTED = "rejected", _("Rejected")
    WITHDRAWN = "withdrawn", _("Withdrawn")


# Staff have these to decide: what was not decided yet, and what was approved in vain.
TO_DECIDE = (RequestState.PENDING, RequestState.FAILED)
# These count against what one person may have open at once.
OPEN = (RequestState.PENDING, RequestState.APPROVED, RequestState.FAILED)


class MachineRequest(models.Model):
    """A person's wish for one machine, from the asking to its last day.

    Written by `services.approvals` and `services.terms` alone. Only the states in between follow the
    machine's own; once it is ready, what becomes of the machine is written there.
    """

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="machine_requests", verbose_name=_("person"))
    number = models.PositiveIntegerField(editable=False)  # counts the person's requests: their machine is named after it
    token = models.UUIDField(default=uuid.uuid4, editable=False)  # of the form it came in: sent twice, it is one request
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="requests", verbose_name=_("template"))
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, related_name="requests", verbose_name=_("tier"))
    reason = models.TextField(_("why"), max_length=1000)
    until = models.DateField(_("until"), help_text=_("The machine's last day. It is shut down afterwards, not deleted."))

    state = models.CharField(_("state"), max_length=10, choices=RequestState, default=RequestState.PENDING, db_index=True)
    created_at = models.DateTimeField(_("asked"), auto_now_add=True)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", verbose_name=_("decided by"))
    answer = models.CharField(_("answer"), max_length=500, blank=True, default="")  # what staff wrote to the person
    problem = models.CharField(_("problem"), max_length=300, blank=True, default="")  # why it could not be made
    machine = models.OneToOneField(Machine, null=True, blank=True, on_delete=models.SET_NULL, related_name="request", verbose_name=_("machine"))
    reminded_at = models.DateTimeField(null=True, blank=True)  # that its last day comes
    ended_at = models.DateTimeField(null=True, blank=True)  # first shut down because that was over

    class Meta:
        ordering = ["-id"]
        verbose_name = _("request")
        verbose_name_plural = _("requests")
        constraints = [
            models.UniqueConstraint(fields=["requester", "number"], name="request_number_once"),
            models.UniqueConstraint(fields=["requester", "token"], name="request_once_per_form"),
        ]

    def __str__(self) -> str:
        return f"{self.template}, {self.tier}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def can_be_decided(self) -> bool:
        return self.state in TO_DECIDE

    @property
    def is_over(self) -> bool:
        """Its machine was made, and the last day has passed."""
        return self.state == RequestState.READY and self.until < timezone.localdate()


class RequestMail(WrittenLetter):
    """Of what became of a request. Written with the change it tells of, by `services.outbox`."""

    request = models.ForeignKey(MachineRequest, on_delete=models.CASCADE, related_name="mails")

    class Meta(WrittenLetter.Meta):
        ordering = ["id"]
