"""What lets a person in without a password: SSH keys into their machines, tokens into the API."""

import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .person import User


class SshKey(models.Model):
    """A public key that is put into the machines of its person."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="ssh_keys")
    name = models.CharField(_("name"), max_length=60)
    text = models.TextField(_("public key"))  # one line as in authorized_keys: type and key, no options
    fingerprint = models.CharField(max_length=80)  # SHA256:… as ssh-keygen -l prints it
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("SSH key")
        verbose_name_plural = _("SSH keys")
        constraints = [models.UniqueConstraint(fields=["user", "fingerprint"], name="ssh_key_once")]

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """What a token may do, never more than its person: each includes READ."""

    READ = "read", _("Read")
    POWER = "power", _("Start, stop and revert machines")
    CLASSES = "classes", _("Manage classes")
    ADMIN = "admin", _("Administer")


class ApiToken(models.Model):
    """A secret that stands for its person in the API. Only the hash of it is kept."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=60)
    digest = models.CharField(max_length=64, unique=True)  # SHA-256, hex; the secret has 256 random bits, so no salt is needed
    scopes = models.JSONField(_("scopes"), default=list)
    created_at = models.DateTimeField(_("made"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    last_used_from = models.GenericIPAddressField(_("last used from"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")

    def __str__(self) -> str:
        return self.name

    @property
    def ends_at(self) -> datetime | None:
        """As it was made for, or when the portal lets no token last so long."""
        longest = settings.API_TOKEN_MAX_DAYS
        ends = [self.expires_at, self.created_at + timedelta(days=longest) if longest else None]
        return min((end for end in ends if end is not None), default=None)

    @property
    def has_expired(self) -> bool:
        return self.ends_at is not None and self.ends_at <= timezone.now()
