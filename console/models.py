"""Tickets: the right to open one console once, and afterwards the record that it is open."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from machines.models import Machine
from machines.providers.types import ConsoleKind


class ConsoleTicket(models.Model):
    """A right to open one console of one machine by one person, once, soon.

    The browser holds 32 random bytes; here is only their SHA-256. Once used, the row stands for
    the open console: whoever relays it moves `seen_at` on and writes `ended_at`. A console whose
    `seen_at` stands still belongs to a web process that is gone.
    """

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10, choices=[(kind.value, kind.value) for kind in ConsoleKind])
    view_only = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=20, blank=True, default="")  # code of console.endings

    class Meta:
        ordering = ["-id"]
        verbose_name = _("console ticket")
        verbose_name_plural = _("console tickets")
        indexes = [models.Index(fields=["user", "created_at"], name="ticket_user")]

    def __str__(self) -> str:
        return f"{self.kind} {self.machine_id}"
