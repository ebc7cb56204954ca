"""The record of what people did."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from .person import User


class AuditEntry(models.Model):
    """Who did what to which object, from where, with what result. Append-only.

    Written by `accounts.services.audit.record` in the transaction of the change itself.
    """

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    actor_name = models.CharField(max_length=150, blank=True)  # stays readable when the account goes
    action = models.CharField(max_length=60, db_index=True)  # dotted: machine.start, class.join
    object_type = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(max_length=20, default="ok")
    address = models.GenericIPAddressField(null=True, blank=True)
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        indexes = [models.Index(fields=["object_type", "object_id"], name="audit_object")]

    def __str__(self) -> str:
        return f"{self.at:%F %T} {self.actor_name} {self.action} {self.object_name}"
