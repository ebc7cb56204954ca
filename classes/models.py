"""Classes, who is in them, how they came in, and the machines they share out."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from machines.models import Batch, Machine, Template


class LabClass(models.Model):
    """A course with a pool of machines made from one template."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(max_length=40, unique=True)  # machine names begin with it
    teacher = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="lab_classes")
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="lab_classes")
    cores = models.PositiveSmallIntegerField(default=1)
    memory_mib = models.PositiveIntegerField(default=512)
    disk_gib = models.PositiveIntegerField(null=True, blank=True)
    # Everybody of this group is in the class: a normalised DN of the directory, or what a single sign-on calls it.
    directory_group = models.TextField(_("group of the directory"), blank=True, default="")
    # Those of the group who were taken out, or went: no sync brings them back, an invite does.
    kept_out = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("class")
        verbose_name_plural = _("classes")

    def __str__(self) -> str:
        return self.name


class Enrolment(models.Model):
    """A student in a class. Whoever has no pool machine yet is on the waiting list, by `id`."""

    lab_class = models.ForeignKey(LabClass, on_delete=models.CASCADE, related_name="enrolments")
    student = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="enrolments")
    joined_at = models.DateTimeField(auto_now_add=True)
    from_directory = models.BooleanField(_("by the group"), default=False)  # not by an invite
    left_group_at = models.DateTimeField(_("left the group"), null=True, blank=True)  # the teacher decides what becomes of the machine

    class Meta:
        ordering = ["id"]
        verbose_name = _("enrolment")
        verbose_name_plural = _("enrolments")
        constraints = [models.UniqueConstraint(fields=["lab_class", "student"], name="enrolled_once")]

    def __str__(self) -> str:
        return f"{self.student} · {self.lab_class}"


class PoolMachine(models.Model):
    """A machine of a class: free, or the machine of one enrolment.

    What one student had is never given to another: `assigned_at` stays when the student goes,
    and the machine is destroyed and replaced. The row stays then, so that numbers are not reused.
    """

    lab_class = models.ForeignKey(LabClass, on_delete=models.PROTECT, related_name="pool")
    machine = models.OneToOneField(Machine, on_delete=models.CASCADE, related_name="pool_place")
    number = models.PositiveIntegerField()  # 7 in web-07; never used twice in a class
    enrolment = models.OneToOneField(Enrolment, null=True, blank=True, on_delete=models.SET_NULL, related_name="place")
    batch = models.ForeignKey(Batch, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")  # that made it
    assigned_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)  # no longer shared out; its machine is to be destroyed

    class Meta:
        ordering = ["number"]
        verbose_name = _("pool machine")
        verbose_name_plural = _("pool machines")
        constraints = [
            models.UniqueConstraint(fields=["lab_class", "number"], name="pool_number_once"),
            models.CheckConstraint(
                condition=models.Q(enrolment__isnull=True) | models.Q(assigned_at__isnull=False, retired_at__isnull=True), name="pool_taken_is_assigned"
            ),
        ]

    def __str__(self) -> str:
        return str(self.machine)

    @property
    def is_spent(self) -> bool:
        """Not to be shared out any more: taken out of the pool, or its student is gone."""
        return self.retired_at is not None or (self.assigned_at is not None and self.enrolment_id is None)


class Invite(models.Model):
    """A link that lets people join. The link carries `token` signed; the row can end it.

    `token` is short enough to be typed by hand from a projector.
    """

    lab_class = models.ForeignKey(LabClass, on_delete=models.CASCADE, related_name="invites")
    token = models.CharField(max_length=32, unique=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    max_uses = models.PositiveIntegerField(null=True, blank=True)
    uses = models.PositiveIntegerField(default=0)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.lab_class} #{self.pk}"
