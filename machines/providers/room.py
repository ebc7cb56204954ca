"""Which memory of a cluster's hosts is for machines: for whoever places them, and for whoever says what is free. Pure."""

from collections.abc import Mapping
from typing import Any

RESERVE_MIB = 2048  # of each host of a Proxmox VE cluster that says nothing else


def reserve_mib(config: Mapping[str, Any], default: int = RESERVE_MIB) -> int:
    """What no machine gets, of each host."""
    reserve = config.get("reserve_mib")
    return reserve if isinstance(reserve, int) else default


def nodes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The hosts that machines may be made on; empty: all."""
    return tuple(str(node) for node in config.get("nodes") or ())


def roomiest(left: Mapping[str, int]) -> str:
    """The host that gets the next machine, of those with MiB left; there is at least one."""
    most = max(left.values())
    return min(name for name, room in left.items() if room == most)
