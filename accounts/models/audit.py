"""The record of what people did."""

from typing import Any, ClassVar, NoReturn

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .person import User


class AppendOnly(TypeError):
    """Somebody tried to change the record."""

    def __init__(self) -> None:
        super().__init__("What is in the record is neither changed nor removed.")


class Entries(models.QuerySet["AuditEntry"]):
    def update(self, **values: Any) -> NoReturn:
        raise AppendOnly

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly

    def forget(self) -> int:
        """Remove what is kept no longer, for `accounts.services.retention` alone. The database
        refuses to remove an entry of the last 30 days. Returns how many there were."""
        return super().delete()[0]


class AuditEntry(models.Model):
    """Who did what to which object, from where, with what result. Append-only, in the database too
    (triggers of migrations 0005 and 0009).

    Written by `accounts.services.audit.record` in the transaction of the change itself.
    """

    at = models.DateTimeField(_("when"), default=timezone.now, editable=False, db_index=True)
    # Nothing of an entry changes when the person goes: the number stays, and so does the name below.
    actor = models.ForeignKey(User, null=True, blank=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    actor_name = models.CharField(max_length=150, blank=True)
    action = models.CharField(_("what"), max_length=60, db_index=True)  # dotted: machine.start, class.join
    object_type = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(_("result"), max_length=20, default="ok")
    address = models.GenericIPAddressField(_("from where"), null=True, blank=True, db_index=True)
    data = models.JSONField(default=dict, blank=True)

    objects: ClassVar[models.Manager["AuditEntry"]] = Entries.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        indexes = [models.Index(fields=["object_type", "object_id"], name="audit_object")]

    def __str__(self) -> str:
        return f"{self.at:%F %T} {self.actor_name} {self.action} {self.object_name}"

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        raise AppendOnly
