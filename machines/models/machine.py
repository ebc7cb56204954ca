"""A machine: what the portal wants of it and what the watcher saw of it."""

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.fields import EncryptedTextField
from machines.lifecycle import MOVING, State

from .cluster import Cluster, Template

STATE_CHOICES = [
    (State.STOPPED, _("Off")),
    (State.RUNNING, _("On")),
    (State.FAILED, _("Needs attention")),
    (State.MISSING, _("Not found on the cluster")),
    (State.DESTROYED, _("Deleted")),
    (State.PENDING, _("Waiting to be made")),
    (State.PROVISIONING, _("Being made")),
    (State.STARTING, _("Starting…")),
    (State.STOPPING, _("Shutting down…")),
    (State.RESTARTING, _("Restarting…")),
    (State.REVERTING, _("Reverting…")),
    (State.UPDATING, _("Being changed…")),
    (State.DESTROYING, _("Being deleted…")),
]


class Machine(models.Model):
    """One virtual machine or container.

    `state` is written by `services.transitions` alone. The columns under *seen* are written by
    the watcher alone. `ref` is the cluster's name for it, stored before the call that makes it.
    """

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=63)
    # It was there before the portal, which labelled it; it is removed or resized only where staff allowed that.
    adopted = models.BooleanField(default=False)
    may_destroy = models.BooleanField(default=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="machines")
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="machines")
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="machines")
    ref = models.CharField(max_length=100, blank=True, default="")
    cores = models.PositiveSmallIntegerField(default=1)
    memory_mib = models.PositiveIntegerField(default=512)
    disk_gib = models.PositiveIntegerField(null=True, blank=True)

    state = models.CharField(max_length=20, choices=STATE_CHOICES, default=State.PENDING, db_index=True)
    state_since = models.DateTimeField(auto_now_add=True)
    # Since when it is on, or off, as far as is known: what leaves the power as it is leaves these.
    on_since = models.DateTimeField(null=True, blank=True)
    off_since = models.DateTimeField(null=True, blank=True)
    made_at = models.DateTimeField(null=True, blank=True)  # creation was observed; before that nothing may be missing
    problem = models.CharField(max_length=300, blank=True, default="")  # a sentence for the owner
    problem_code = models.CharField(max_length=40, blank=True, default="")

    # Credentials, made for this machine alone.
    username = models.CharField(max_length=32, blank=True, default="")
    password = EncryptedTextField(blank=True, default="")
    ssh_private_key = EncryptedTextField(blank=True, default="")  # OpenSSH format; the portal's way in
    ssh_public_key = models.TextField(blank=True, default="")
    ssh_host_key = models.TextField(blank=True, default="")  # pinned at the first contact after (re)making
    # What its seed says of its person, as `gateway.told_of_person` has it. Fixed once a guest has read it: a used guest
    # that finds another seed begins anew, with new host keys.
    seeded_with = models.JSONField(default=dict, blank=True, editable=False)
    seed_read = models.BooleanField(default=True, editable=False)  # it was on since the seed was written

    # Seen.
    power = models.CharField(max_length=8, default="unknown")
    node = models.CharField(max_length=100, blank=True, default="")
    keeps_snapshots = models.BooleanField(default=True)  # its storage can; where not, reverting makes it anew
    endpoints = models.JSONField(default=list, blank=True)  # as dicts of providers.types.Endpoint
    address_seen_at = models.DateTimeField(null=True, blank=True)  # when the addresses in `endpoints` were last told
    told_since = models.JSONField(default=dict, blank=True, editable=False)  # since when it tells each of its addresses, also over being off: ISO times
    seen_at = models.DateTimeField(null=True, blank=True)  # when what is under *seen* last changed
    misses = models.PositiveSmallIntegerField(default=0)  # whole inventories in a row without it
    answering_since = models.DateTimeField(null=True, blank=True)  # SSH answered since power-on: booted

    address_asked_at = models.DateTimeField(null=True, blank=True)  # when somebody wanted the guest to be asked again

    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("machine")
        verbose_name_plural = _("machines")
        constraints = [
            models.UniqueConstraint(fields=["cluster", "ref"], condition=~models.Q(ref=""), name="ref_once_per_cluster"),
        ]
        indexes = [models.Index(fields=["owner", "state"]), models.Index(fields=["cluster", "state"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_moving(self) -> bool:
        return self.state in MOVING

    @property
    def since(self) -> datetime:
        """Since when it is as its state says: switched on, off, or whatever else."""
        switched = {State.RUNNING: self.on_since, State.STOPPED: self.off_since}.get(State(self.state))
        return switched or self.state_since


class Snapshot(models.Model):
    """A state of a machine that its owner kept."""

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="snapshots")
    name = models.SlugField(max_length=40)  # also the cluster's name for it
    note = models.CharField(max_length=200, blank=True, default="")
    ready = models.BooleanField(default=False)  # seen on the cluster
    ssh_host_key = models.TextField(blank=True, default="")  # what the machine's was; the snapshot has it in it
    seeded_with = models.JSONField(default=dict, blank=True, editable=False)  # what the machine's was, which goes with that host key
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [models.UniqueConstraint(fields=["machine", "name"], name="snapshot_name_once")]

    def __str__(self) -> str:
        return self.name
