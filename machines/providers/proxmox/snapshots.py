"""Snapshots: the one of a machine's beginning, and those that people take, whose names Proxmox VE would not take as they are."""

import re
from collections.abc import Iterable
from typing import Any

from machines.providers.errors import InvalidSpec
from machines.providers.types import SnapshotInfo

from .client import Client
from .guests import Guest
from .resources import lines, number

BASELINE = "labportal-baseline"
PREFIX = "lp-"  # so that "1a" and "current" are names too
LONGEST = 40
_NAME = re.compile(r"[A-Za-z0-9-]+")


def pve_name(name: str) -> str:
    """Raises InvalidSpec."""
    if not _NAME.fullmatch(name) or len(PREFIX + name) > LONGEST:
        raise InvalidSpec(f"snapshot {name!r}", message=f"A snapshot's name has letters, digits and dashes, {LONGEST - len(PREFIX)} at most.")
    return PREFIX + name


def own_name(pve: str) -> str:
    """As people gave it; empty for what was not made by the portal for them."""
    return pve.removeprefix(PREFIX) if pve.startswith(PREFIX) else ""


def listed(client: Client, guest: Guest) -> list[dict[str, Any]]:
    """Every snapshot there is; `current`, which is none, left out."""
    return [line for line in lines(client.get(f"{guest.path}/snapshot")) if line.get("name") not in (None, "current")]


def own_snapshots(found: Iterable[dict[str, Any]]) -> list[SnapshotInfo]:
    own = [
        SnapshotInfo(name, float(number(line.get("snaptime")) or 0), bool(number(line.get("vmstate")))) for line in found if (name := own_name(line["name"]))
    ]
    return sorted(own, key=lambda snapshot: snapshot.created)
