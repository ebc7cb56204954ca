"""People and the record of what they did."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    STUDENT = "student", _("Student")
    TEACHER = "teacher", _("Teacher")
    STAFF = "staff", _("Staff")


class People(UserManager["User"]):
    def create_superuser(self, username: str, email: str | None = None, password: str | None = None, **fields: Any) -> "User":
        """A superuser counts as staff."""
        return super().create_superuser(username, email, password, **{"role": Role.STAFF, **fields})


class User(AbstractUser):
    """A person. `role` decides what the portal offers; `is_staff` (Django's) opens the admin
    and follows the role, see `accounts.services.roles`."""

    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.STUDENT)
    keyboard = models.CharField(_("keyboard layout"), max_length=16, default="us", help_text=_("Used in new machines and in consoles."))

    objects: ClassVar[People] = People()

    @property
    def teaches(self) -> bool:
        return self.is_active and (self.role in (Role.TEACHER, Role.STAFF) or self.is_superuser)

    @property
    def runs_portal(self) -> bool:
        return self.is_active and (self.role == Role.STAFF or self.is_superuser)

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Staff may do in the admin whatever it offers; what it must not offer, the admin withholds."""
        return self.runs_portal or super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        return self.runs_portal or super().has_module_perms(app_label)

    def __str__(self) -> str:
        return self.get_full_name() or self.username


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
