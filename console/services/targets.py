"""Where a console is found and how the portal signs in there. Nothing of it reaches the browser.

What a guest says about its address is a claim: only literal addresses inside the networks of
its cluster are connected to, on SSH's own port. A forward made by the provider is trusted.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from console.relay.ssh import SshTarget
from console.relay.vnc import VncTarget
from console.services.tickets import refusal
from machines.models import Machine
from machines.providers.errors import NotRunning, ProviderError, Transient, Unsupported
from machines.providers.types import ConsoleKind
from machines.services import gateway

SSH_PORT = 22


def screen(machine: Machine, *, view_only: bool) -> VncTarget:
    """Open the screen at the hypervisor. Blocks for up to a provider call (20 s), so it belongs in
    a thread of its own. Raises Refused: machine_off, no_screen, unreachable, fault."""
    try:
        opened = gateway.provider_for(machine.cluster).open_console(gateway.identity(machine), machine.ref, ConsoleKind.SCREEN)
    except NotRunning as error:
        raise refusal("machine_off") from error
    except Unsupported as error:
        raise refusal("no_screen") from error
    except Transient as error:
        raise refusal("unreachable") from error
    except ProviderError as error:
        raise refusal("fault") from error
    return VncTarget(host=opened.host, port=opened.port, path=opened.path, password=opened.password, view_only=view_only)


def terminal(machine: Machine) -> SshTarget:
    """Raises Refused: no_address, foreign_address."""
    host, port = _ssh_address(machine.endpoints, machine.cluster.networks)
    return SshTarget(host=host, port=port, username=machine.username, private_key=machine.ssh_private_key, host_key=machine.ssh_host_key or None)


def pin_host_key(machine: Machine, host_key: str) -> bool:
    """Keep the key seen at the first contact. False where another key was pinned meanwhile: then
    what answered is not the machine that is known, and nothing may be said to it."""
    if Machine.objects.filter(pk=machine.pk, ssh_host_key="").update(ssh_host_key=host_key):
        return True
    return Machine.objects.filter(pk=machine.pk, ssh_host_key=host_key).exists()


def _ssh_address(endpoints: Iterable[Mapping[str, Any]], networks: Iterable[str]) -> tuple[str, int]:
    allowed = [ipaddress.ip_network(network) for network in networks]
    claimed = False
    for endpoint in sorted(endpoints, key=lambda one: (one["source"] != "forward", one["service"] != "ssh")):
        if endpoint["service"] not in {"ssh", "guest"}:
            continue
        if endpoint["source"] == "forward":
            return str(endpoint["host"]), int(endpoint["port"])
        claimed = True
        address = _literal(str(endpoint["host"]))
        if address and any(address in network for network in allowed):
            return str(address), SSH_PORT
    raise refusal("foreign_address" if claimed else "no_address")


def _literal(claim: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
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
