"""How a person gets into a machine with a program of their own: by the address that the portal itself
would connect to. Of others the page says what the guest claims, and why it is not used."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from machines.lifecycle import State
from machines.models import Machine

from .addresses import SSH_PORT, ForeignAddress, NoAddress, believable, disputed, literal, ssh_address


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int  # 0: that of each program
    forwarded: bool  # made by the hypervisor on its own host, reachable from there
    source: str = ""
    seen_at: datetime | None = None

    @property
    def told_by(self) -> str:
        """Who said so, in words."""
        return {
            "agent": _("from the guest"),
            "container": _("from the container"),
            "arp": _("from the network"),
            "lease": _("from the network"),
            "forward": _("made by the host of the cluster"),
        }.get(self.source, "")

    @property
    def text(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class WayIn:
    """Without an address and a doubt, none is known (yet)."""

    address: Address | None = None
    ssh_command: str = ""  # for a terminal of one's own
    doubt: str = ""


def way_in(machine: Machine) -> WayIn:
    if machine.state != State.RUNNING:
        return WayIn()
    doubted = disputed(machine)
    try:
        host, port = ssh_address(machine.endpoints, machine.cluster.networks, doubted)
    except NoAddress:
        return WayIn()
    except ForeignAddress:
        return WayIn(doubt=_doubt(machine, doubted))
    address = _address(machine, host, port)
    at_port = "" if port == SSH_PORT else f"-p {port} "
    return WayIn(address, f"ssh {at_port}{machine.username}@{host}" if machine.username else "")


def _address(machine: Machine, host: str, port: int) -> Address:
    forwarded = any(end["source"] == "forward" and (end["host"], end["port"]) == (host, port) for end in machine.endpoints)
    if forwarded:
        return Address(host, port, True, "forward", machine.seen_at)
    sources = [str(end["source"]) for end in machine.endpoints if end["service"] != "mac" and str(literal(str(end["host"]))) == host]
    return Address(host, 0, False, "arp" if "arp" in sources else sources[0], machine.address_seen_at)


def _doubt(machine: Machine, doubted: frozenset[str]) -> str:
    """Why none of the addresses it tells is used, and what to do."""
    told = [address for end in machine.endpoints if end["service"] in ("ssh", "guest") and (address := literal(str(end["host"])))]
    networks = believable(machine.cluster.networks)
    twice = next((address for address in told if str(address) in doubted), None)
    if twice is not None:
        return _(
            "The machine says that its address is %(address)s, and another machine has that too. It is not used. "
            "Have the machine ask the network for an address of its own, and then look again; else tell the staff."
        ) % {"address": twice}
    if not told:
        return _("The machine tells no address that can be one. The screen does not need it; tell the staff.")
    if not networks:
        return _("The machine says that its address is %(address)s. It is not used, as staff have listed no networks of this cluster. Tell the staff.") % {
            "address": told[0]
        }
    return _(
        "The machine says that its address is %(address)s, which is not in the networks of its cluster. It is not used: what is there may be "
        "something else. Set the machine to get its address from the network, and then look again; else tell the staff."
    ) % {"address": told[0]}
