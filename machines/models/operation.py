"""What is being done to machines. The row is the truth; the queue is only the doorbell."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from machines.lifecycle import Kind

from .machine import Machine


class OperationState(models.TextChoices):
    QUEUED = "queued", _("Waiting for its turn")
    RUNNING = "running", _("Working")
    WAITING = "waiting", _("Waiting for the cluster")
    SUCCEEDED = "succeeded", _("Done")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


ACTIVE = (OperationState.QUEUED, OperationState.RUNNING, OperationState.WAITING)

KIND_CHOICES = [
    (Kind.PROVISION, _("Make")),
    (Kind.START, _("Start")),
    (Kind.STOP, _("Shut down")),
    (Kind.FORCE_OFF, _("Force off")),
    (Kind.RESTART, _("Restart")),
    (Kind.REVERT, _("Revert")),
    (Kind.SNAPSHOT, _("Take snapshot")),
    (Kind.DELETE_SNAPSHOT, _("Delete snapshot")),
    (Kind.RESIZE, _("Resize")),
    (Kind.DESTROY, _("Delete")),
    (Kind.ADOPT, _("Adopt")),
    (Kind.RELEASE, _("Release")),
]


class Priority(models.IntegerChoices):
    """Smaller is sooner."""

    PERSON = 10, _("A person waits")
    BULK = 50, _("Bulk")
    REFILL = 90, _("Refill")


class Batch(models.Model):
    """Many operations asked for at once, followed with one progress bar."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    title = models.CharField(max_length=200)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("batch")
        verbose_name_plural = _("batches")

    def __str__(self) -> str:
        return self.title


class Operation(models.Model):
    """One piece of work on one machine, from the wish to the observed end.

    `checkpoint` holds what the next step needs after a crash: task refs, names, deadlines.
    `lease` belongs to the worker at it; who holds no lease writes nothing.
    """

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="operations")
    batch = models.ForeignKey(Batch, null=True, blank=True, on_delete=models.SET_NULL, related_name="operations")
    kind = models.CharField(max_length=20, choices=KIND_CHOICES)
    params = models.JSONField(default=dict, blank=True)  # what was asked: snapshot name, sizes, start afterwards
    state = models.CharField(max_length=12, choices=OperationState, default=OperationState.QUEUED)
    step = models.PositiveSmallIntegerField(default=0)
    slot = models.CharField(max_length=12, default="power")  # the limit its next step counts against: create, power
    checkpoint = models.JSONField(default=dict, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(db_index=True)
    lease = models.CharField(max_length=64, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.PERSON)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    progress = models.FloatField(default=0)  # 0 to 1
    message = models.CharField(max_length=300, blank=True, default="")  # for the person: what is happening, or why it failed
    code = models.CharField(max_length=40, blank=True, default="")
    detail = models.TextField(blank=True, default="")  # for operators
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        constraints = [
            models.UniqueConstraint(fields=["machine"], condition=models.Q(state__in=["queued", "running", "waiting"]), name="one_active_operation"),
        ]
        indexes = [
            models.Index(fields=["state", "priority", "not_before"], name="operation_due"),
            models.Index(fields=["state", "lease_until"], name="operation_lease"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.machine_id}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE


class OperationEvent(models.Model):
    """A line people read. Append-only."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    level = models.CharField(max_length=8, default="info")  # info, warning, error
    text = models.CharField(max_length=300)

    class Meta:
        ordering = ["id"]
        verbose_name = _("line of an operation")
        verbose_name_plural = _("lines of operations")

    def __str__(self) -> str:
        return self.text


class Heartbeat(models.Model):
    """When a worker or a watcher last showed that it works. One row per `name`."""

    name = models.CharField(max_length=60, unique=True)
    at = models.DateTimeField()

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return self.name
