"""What machines say about their addresses, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from machines.lifecycle import State
from machines.models import Machine


@dataclass(frozen=True, slots=True)
class Claims:
    """What one machine tells: when last, and since when which address (ISO times)."""

    machine: int
    endpoints: list[dict[str, Any]]
    networks: list[str]  # of its cluster
    at: datetime | None = None
    since: Mapping[str, str] | None = None


def claims() -> list[Claims]:
    """Those of the machines that are on, of all clusters, in one query: an address leads the portal to the same place whoever tells it."""
    rows = Machine.objects.filter(state=State.RUNNING).exclude(endpoints=[]).order_by()
    return [Claims(*row) for row in rows.values_list("pk", "endpoints", "cluster__networks", "address_seen_at", "told_since")]
