"""Disks that a removal may have left on their storage. They are told to staff and never removed from here."""

import logging
from collections.abc import Iterable
from datetime import timedelta

from django.utils import timezone

from accounts.models import AuditEntry
from accounts.services import audit
from machines.models import Cluster
from machines.providers.types import TaskStatus

log = logging.getLogger(__name__)

ACTION = "cluster.disks_left"
TOLD = timedelta(days=30)


def note(cluster: Cluster, statuses: Iterable[TaskStatus]) -> None:
    """Keep what came out when tasks were asked after."""
    disks = sorted({disk for status in statuses for disk in status.left})
    if disks:
        log.warning("cluster %s: a removal had warnings; these disks may still be there: %s", cluster, ", ".join(disks))
        audit.record(ACTION, acting_user=None, target=cluster, outcome="failed", disks=disks)


def recent(cluster: Cluster) -> list[str]:
    """Those of the last month."""
    entries = AuditEntry.objects.filter(action=ACTION, object_type="cluster", object_id=str(cluster.pk), at__gt=timezone.now() - TOLD)
    return sorted({disk for data in entries.values_list("data", flat=True) for disk in data["disks"]})
