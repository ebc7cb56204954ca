"""The file that opens a machine's remote desktop."""

import ipaddress
import re

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.lifecycle import State
from machines.models import Machine

from .addresses import ForeignAddress, NoAddress, disputed, rdp_address
from .refusal import Refused

_USERNAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def rdp_file(machine: Machine, *, acting_user: User) -> str:
    """What is given is recorded. Raises Refused where the template has no remote desktop, or no address of the machine is believed."""
    if not machine.template.rdp:
        raise Refused(_("Machines of this template have no remote desktop. Use screen and terminal."), code="no_rdp")
    if machine.state != State.RUNNING:
        raise Refused(_("The machine is not on. Start it, and then get the file again."), code="machine_off")
    try:
        host, port = rdp_address(machine.endpoints, machine.cluster.networks, disputed(machine))
    except NoAddress:
        raise Refused(_("The machine has no address yet. Wait until it has started, and look again."), code="no_address") from None
    except ForeignAddress:
        raise Refused(
            _("The machine claims an address that is not its own or outside the networks of its cluster. No file is made for it. Tell the staff."),
            code="foreign_address",
        ) from None
    with transaction.atomic():
        audit.record("machine.rdp_file", acting_user=acting_user, target=machine)
    return write(host, port, machine.username)


def write(host: str, port: int, username: str) -> str:
    """Only keys of ours, and values of which none can hold a line break; never a password. Raises ValueError
    where `host` is not an address, or `port` not a port."""
    address = ipaddress.ip_address(host)
    if not 0 < port < 65536:
        raise ValueError(port)
    lines = [f"full address:s:[{address}]:{port}" if address.version == 6 else f"full address:s:{address}:{port}"]
    if _USERNAME.fullmatch(username):
        lines.append(f"username:s:{username}")
    lines += ["prompt for credentials:i:1", "authentication level:i:2", "redirectclipboard:i:1", "redirectdrives:i:0", "redirectprinters:i:0"]
    return "".join(f"{line}\r\n" for line in lines)
