"""Asking less of a cluster that says it has too much to do."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from machines.models import Cluster
from machines.selectors.load import limit, loads

log = logging.getLogger(__name__)

BURST = timedelta(seconds=10)  # what comes together is one sign of overload, not many


def ease(cluster: Cluster, slot: str) -> None:
    """Called by an operation that met an overload: halve, once a burst, how much work of the
    slot's sort may be under way on this cluster, and let it be no more than what goes on there
    besides; at least one. Where hardly anything goes on besides, it is not our work that is too
    much. It grows back by itself (`machines.selectors.load.limit`). Locks the cluster's row."""
    sort, now = "create" if slot == "create" else "power", timezone.now()
    with transaction.atomic():
        row = Cluster.objects.select_for_update().get(pk=cluster.pk)
        last = row.eased.get(sort)
        most = limit(row, sort)
        if last is None or now - datetime.fromisoformat(last["at"]) >= BURST:
            most //= 2
        if (besides := loads([row])[row.pk].under_way(sort) - 1) > 1:
            most = min(most, besides)
        row.eased[sort] = {"to": max(1, most), "at": now.isoformat()}
        row.save(update_fields=["eased"])
    log.warning("cluster %s is overloaded: %s is down to %d at a time", row, sort, row.eased[sort]["to"])
