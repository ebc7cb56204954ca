"""Which of a machine's addresses are believed.

What a guest says about its address is a claim: only literal addresses inside the networks of its
cluster are connected to, and none that another machine, of whatever cluster, has the better claim to.
A forward made by the provider is trusted.
"""

import ipaddress
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from machines.models import Machine
from machines.selectors.claims import Claims, claims

from .refusal import Refused

SSH_PORT = 22
RDP_PORT = 3389

FRESH_SECONDS = 600  # a claim that was not told again for so long gives way to one that was

Endpoints = Iterable[Mapping[str, Any]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NoAddress(Exception):
    """The machine has no address (yet)."""


class ForeignAddress(Exception):
    """The machine claims addresses only that are outside the networks of its cluster, or another's too."""


def ssh_address(endpoints: Endpoints, networks: Iterable[str], disputed: frozenset[str] = frozenset()) -> tuple[str, int]:
    """Host and port of a machine's SSH, from `Machine.endpoints` and `Cluster.networks`, without the
    addresses in `disputed`. Raises NoAddress, ForeignAddress."""
    return _service("ssh", SSH_PORT, endpoints, networks, disputed)


def rdp_address(endpoints: Endpoints, networks: Iterable[str], disputed: frozenset[str] = frozenset()) -> tuple[str, int]:
    """The same for its remote desktop."""
    return _service("rdp", RDP_PORT, endpoints, networks, disputed)


def _service(service: str, port: int, endpoints: Endpoints, networks: Iterable[str], disputed: frozenset[str]) -> tuple[str, int]:
    allowed = believable(networks)
    claimed = False
    for endpoint in sorted(endpoints, key=lambda one: (one["source"] != "forward", one["service"] != service, one["source"] != "arp")):
        if endpoint["service"] not in {service, "guest"}:
            continue
        if endpoint["source"] == "forward":
            if endpoint["service"] == service:
                return str(endpoint["host"]), int(endpoint["port"])
            continue
        claimed = True
        address = literal(str(endpoint["host"]))
        if address and str(address) not in disputed and any(address in network for network in allowed):
            return str(address), port
    raise ForeignAddress if claimed else NoAddress


def disputed(machine: Machine) -> frozenset[str]:
    """The addresses that are not believed of this machine, see `disputes`."""
    if all(endpoint["source"] == "forward" for endpoint in machine.endpoints):
        return frozenset()
    return disputes(claims()).get(machine.pk, frozenset())


def disputes(told: Iterable[Claims]) -> dict[int, frozenset[str]]:
    """By machine, the addresses that are not believed of it, as another machine claims them too. It is believed of the one
    that the network itself has there ("arp"); else of the one that told it lately; else of the one that had it first. Else of none."""
    fresh = timezone.now() - timedelta(seconds=FRESH_SECONDS)
    claimants: defaultdict[str, dict[int, tuple[bool, bool, float]]] = defaultdict(dict)
    for one in told:
        allowed = believable(one.networks)
        for endpoint in one.endpoints:
            address = literal(str(endpoint["host"])) if endpoint["service"] != "mac" and endpoint["source"] != "forward" else None
            if address and any(address in network for network in allowed):
                worth = endpoint["source"] == "arp", one.at is None or one.at > fresh, -_moment(one, str(address))
                known = claimants[str(address)]
                known[one.machine] = max(worth, known.get(one.machine, worth))
    doubted: defaultdict[int, set[str]] = defaultdict(set)
    for host, machines in claimants.items():
        best = max(machines.values())
        holders = [machine for machine, worth in machines.items() if worth == best]
        for machine in machines:
            if holders != [machine]:
                doubted[machine].add(host)
    return {machine: frozenset(hosts) for machine, hosts in doubted.items()}


def _moment(told: Claims, host: str) -> float:
    """Since when it tells the address; the end of time where nobody noted that."""
    noted = (told.since or {}).get(host)
    return datetime.fromisoformat(noted).timestamp() if noted else math.inf


def network(text: str) -> Network:
    """The range that was entered. Raises Refused."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        with suppress(ValueError):
            meant = {"text": text, "network": ipaddress.ip_network(text, strict=False)}
            raise Refused(_("“%(text)s” is an address in %(network)s. Enter the network itself.") % meant, code="bad_network") from error
        raise Refused(_("“%(text)s” is not a network, such as 10.20.0.0/16.") % {"text": text[:100]}, code="bad_network") from error


def believable(networks: object) -> list[Network]:
    """`Cluster.networks`, without what is none: one mistake in it makes addresses of that cluster unbelieved, and keeps nobody from theirs."""
    found: list[Network] = []
    for text in networks if isinstance(networks, list | tuple) else ():
        with suppress(ValueError):
            found.append(ipaddress.ip_network(str(text)))
    return found


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
