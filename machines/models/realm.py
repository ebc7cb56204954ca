"""People who sign in with an account of a cluster."""

from django.conf import settings
from django.db import models

from accounts.models import Role

from .cluster import Cluster


class RealmIdentity(models.Model):
    """Whose account of a cluster is which person here. The cluster's name for it counts, never the user name."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="realm_identities")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="people")
    userid = models.CharField(max_length=100)  # name@realm, as the cluster writes it
    # The role before the cluster made them staff; empty where it did not. It is theirs again when they are not on its list any more.
    role_before = models.CharField(max_length=10, choices=Role, blank=True, default="")

    class Meta:
        ordering = ["userid"]
        verbose_name_plural = "realm identities"
        constraints = [models.UniqueConstraint(fields=["cluster", "userid"], name="realm_userid_once_per_cluster")]

    def __str__(self) -> str:
        return self.userid
