"""People, and what their role brings with it."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

_NAME_BESIDE = 47  # letters of a name that the record (200) has room for beside the longest user name


class Role(models.TextChoices):
    STUDENT = "student", _("Student")
    TEACHER = "teacher", _("Teacher")
    STAFF = "staff", _("Staff")


class People(UserManager["User"]):
    def create_superuser(self, username: str, email: str | None = None, password: str | None = None, **fields: Any) -> "User":
        """A superuser counts as staff."""
        return super().create_superuser(username, email, password, **{"role": Role.STAFF, **fields})

    def held(self) -> models.QuerySet["User"]:
        """Locked until the transaction ends; several of them by `order_by("pk")`. Without their keys, so that rows which
        name them are written meanwhile: whoever holds one person and writes that staff are told must not wait for whoever
        holds all staff and waits for that person."""
        return self.select_for_update(no_key=True)


class User(AbstractUser):
    """A person. `role` decides what the portal offers; `is_staff` (Django's) opens the admin
    and follows the role, see `accounts.services.roles`."""

    # Django's own, in the portal's words.
    username = models.CharField(
        _("user name"),
        max_length=150,
        unique=True,
        validators=[UnicodeUsernameValidator()],
        help_text=_("At most 150 letters, digits and . _ - +"),
        error_messages={"unique": _("Somebody has this user name already.")},
    )
    email = models.EmailField(_("e-mail address"), blank=True)
    is_superuser = models.BooleanField(_("superuser"), default=False, help_text=_("Staff who make and undo superusers, and change what they have."))
    is_active = models.BooleanField(_("active"), default=True, help_text=_("Whether they get in."))

    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.STUDENT)
    # What stays when other systems, which gave `role`, give nothing any more; "": none of them gave it.
    own_role = models.CharField(max_length=10, choices=Role.choices, blank=True, default="")
    keyboard = models.CharField(_("keyboard layout"), max_length=16, default="us", help_text=_("Used in new machines and in consoles."))
    language = models.CharField(_("language"), max_length=10, blank=True, default="", help_text=_("Empty: as the browser says."))
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="", help_text=_("Empty: as the browser says."))

    mail_decisions = models.BooleanField(_("mail about my requests"), default=True)
    mail_reminders = models.BooleanField(_("mail before a machine's last day"), default=True)
    mail_staff = models.BooleanField(_("mail about requests to decide"), default=True)  # to staff alone; also that somebody asks to be removed

    # What this person may have outside classes; None: as their role has it.
    max_machines = models.PositiveIntegerField(_("machines at most"), null=True, blank=True)
    max_cores = models.PositiveIntegerField(_("processor cores at most"), null=True, blank=True)
    max_memory_mib = models.PositiveIntegerField(_("memory at most, MiB"), null=True, blank=True)

    # What staff put into `email`, which counts as that of this person without being confirmed. Staff alone write it.
    email_given = models.EmailField(blank=True, default="")

    removal_asked_at = models.DateTimeField(_("asked to be removed"), null=True, blank=True)

    objects: ClassVar[People] = People()

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")

    def hold(self) -> None:
        """Lock the row, and bring this object up to date. Inside a transaction only."""
        self.refresh_from_db(from_queryset=User.objects.held())

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

    @property
    def unmistakable(self) -> str:
        """“Anna Maier (anna)”: people choose their name, and may choose somebody else's; nobody has another's user name."""
        name = self.get_full_name()
        return f"{name[:_NAME_BESIDE]} ({self.username})" if name else self.username


class RolePolicy(models.Model):
    """What staff decided for everybody of one role. A role without a row has no limit and needs no second factor."""

    role = models.CharField(_("role"), max_length=10, choices=Role.choices, unique=True)
    second_factor = models.BooleanField(_("second factor required"), default=False)
    max_machines = models.PositiveIntegerField(_("machines at most"), null=True, blank=True, help_text=_("Outside classes. Empty: no limit."))
    max_cores = models.PositiveIntegerField(_("processor cores at most"), null=True, blank=True)
    max_memory_mib = models.PositiveIntegerField(_("memory at most, MiB"), null=True, blank=True)

    class Meta:
        ordering = ["role"]
        verbose_name = _("role with rules")
        verbose_name_plural = _("roles with rules")

    def __str__(self) -> str:
        return self.get_role_display()
