"""Addresses that guests tell: from the agent in a machine, from the node of a container. Both are hostile until checked."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from machines.providers.types import Endpoint

from .configs import options
from .resources import lines

MOST = 8
_OF_CONTAINERS = ("docker", "br-", "veth", "virbr", "cni", "flannel", "lxc", "podman")


def mac_of(net: object) -> str:
    """'virtio=BC:24:…,bridge=vmbr0' or 'name=eth0,hwaddr=BC:24:…'."""
    return next((value.lower() for value in options(net).values() if value.count(":") == 5), "")


def endpoints(answer: object, net0: object, source: str = "agent") -> tuple[Endpoint, ...]:
    """Those of the first card; where none has its hardware address, of all that are the guest's own. IPv4 first."""
    told = list(lines(answer.get("result") if isinstance(answer, dict) else answer))
    own = [line for line in told if not str(line.get("name", "")).startswith(("lo", *_OF_CONTAINERS))]
    mac = mac_of(net0)
    first = [line for line in own if mac and str(line.get("hardware-address") or line.get("hwaddr") or "").lower() == mac]
    found = {address for line in first or own for text in _texts(line) if (address := _usable(text))}
    ordered = sorted(found, key=lambda address: (address.version, int(address)))[:MOST]
    return tuple(Endpoint("guest", str(address), 0, source) for address in ordered)


def _texts(line: dict[str, Any]) -> Iterable[str]:
    for address in lines(line.get("ip-addresses")):
        yield str(address.get("ip-address") or "")
    for key in ("inet", "inet6"):
        yield str(line.get(key) or "").partition("/")[0]


def _usable(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    barred = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return None if barred or (isinstance(address, ipaddress.IPv6Address) and address.scope_id) else address
