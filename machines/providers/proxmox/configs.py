"""Configurations of guests, read and compared: what is there, and what has to be changed. Pure.

Those of both kinds: `machines` and `containers` add what is theirs.
"""

import re
from collections.abc import Mapping
from typing import Any

from machines.providers.errors import InvalidSpec
from machines.providers.types import VMIDS, MachineSpec

from .resources import number

TAGS = frozenset({"labportal"})
MIB_OF = {"": 1 / (1 << 20), "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
BUILDING_LOCKS = ("clone", "create")

Config = Mapping[str, Any]


def numbers(config: Config) -> range:
    """The VMIDs of machines that `config` of a cluster names."""
    first, last = config.get("vmids") or VMIDS
    return range(int(first), int(last) + 1)


def require_sizes(spec: MachineSpec) -> None:
    if spec.cores < 1:
        raise InvalidSpec(f"{spec.cores} cores", message="A machine has one core at least.")
    if spec.memory_mib < 16:
        raise InvalidSpec(f"{spec.memory_mib} MiB", message="A machine has 16 MiB of memory at least.")
    if spec.disk_gib is not None and spec.disk_gib < 1:
        raise InvalidSpec(f"{spec.disk_gib} GiB", message="A disk has 1 GiB at least.")


def options(value: object) -> dict[str, str]:
    """'local-lvm:vm-1-disk-0,size=8G' as {"": "local-lvm:vm-1-disk-0", "size": "8G"}."""
    found: dict[str, str] = {}
    for part in str(value).split(","):
        name, equals, text = part.partition("=")
        if equals:
            found[name] = text
        else:
            found.setdefault("", name)
    return found


def storage_of(value: object) -> str:
    volume = options(value).get("", "")
    return volume.partition(":")[0] if ":" in volume and not volume.startswith("/") else ""


def size_mib(value: object) -> float | None:
    """Of a drive or mount point, where it says."""
    found = _SIZE.fullmatch(options(value).get("size", ""))
    return float(found[1]) * MIB_OF[found[2]] if found else None


def tags(value: object) -> frozenset[str]:
    """Order and case do not count."""
    return frozenset(tag.lower() for tag in re.split(r"[;,\s]+", str(value or "")) if tag)


def bridged(net: object, bridge: str) -> str | None:
    """The network card at `bridge`; None where it is there already."""
    text = str(net)
    if options(text).get("bridge") == bridge:
        return None
    replaced, done = re.subn(r"(^|,)bridge=[^,]*", rf"\g<1>bridge={bridge}", text)
    return replaced if done else f"{text},bridge={bridge}"


def common_changes(config: Config, spec: MachineSpec, *, name_key: str, name: str, bridge: str, with_tags: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if number(config.get("cores") or (1 if name_key == "name" else None)) != spec.cores:
        changes["cores"] = spec.cores
    memory = options(config.get("memory", 512))
    if number(memory.get("current") or memory.get("")) != spec.memory_mib:
        changes["memory"] = spec.memory_mib
    if config.get(name_key) != name:
        changes[name_key] = name
    if number(config.get("onboot")):
        changes["onboot"] = 0
    if with_tags and tags(config.get("tags")) != TAGS:
        changes["tags"] = ";".join(sorted(TAGS))
    if bridge and config.get("net0") and (moved := bridged(config["net0"], bridge)):
        changes["net0"] = moved
    return changes
