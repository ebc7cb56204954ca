"""What the machines of a cluster say about their addresses, side by side."""

from collections.abc import Collection
from typing import Any

from machines.lifecycle import State
from machines.models import Machine


def claims(clusters: Collection[int]) -> dict[int, dict[int, list[dict[str, Any]]]]:
    """The endpoints of the machines that are on, by cluster and machine, in one query."""
    told: dict[int, dict[int, list[dict[str, Any]]]] = {}
    rows = Machine.objects.filter(cluster_id__in=clusters, state=State.RUNNING).exclude(endpoints=[])
    for cluster, machine, endpoints in rows.values_list("cluster_id", "pk", "endpoints"):
        told.setdefault(cluster, {})[machine] = endpoints
    return told
