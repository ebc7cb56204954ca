"""Where a guest's SSH may be looked for.

What a guest says about its address is a claim: only literal addresses inside the networks of
its cluster are connected to, on SSH's own port. A forward made by the provider is trusted.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

SSH_PORT = 22


class NoAddress(Exception):
    """The machine has no address (yet)."""


class ForeignAddress(Exception):
    """The machine claims addresses outside the networks of its cluster only."""


def ssh_address(endpoints: Iterable[Mapping[str, Any]], networks: Iterable[str]) -> tuple[str, int]:
    """Host and port of a machine's SSH, from `Machine.endpoints` and `Cluster.networks`.
    Raises NoAddress, ForeignAddress."""
    allowed = [ipaddress.ip_network(network) for network in networks]
    claimed = False
    for endpoint in sorted(endpoints, key=lambda one: (one["source"] != "forward", one["service"] != "ssh")):
        if endpoint["service"] not in {"ssh", "guest"}:
            continue
        if endpoint["source"] == "forward":
            return str(endpoint["host"]), int(endpoint["port"])
        claimed = True
        address = literal(str(endpoint["host"]))
        if address and any(address in network for network in allowed):
            return str(address), SSH_PORT
    raise ForeignAddress if claimed else NoAddress


def literal(claim: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, if it is one and can be that of a machine: no name, no loopback, no link-local
    (a cloud's metadata lives there), no IPv4 address dressed as IPv6."""
    try:
        address = ipaddress.ip_address(claim)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped or address.sixtofour or address.teredo):
        return None
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return None
    return address
