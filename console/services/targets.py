"""Where a console is found and how the portal signs in there. Nothing of it reaches the browser."""

from console.relay.ssh import SshTarget
from console.relay.vnc import VncTarget
from console.services.tickets import refusal
from machines.models import Machine
from machines.providers.errors import NotRunning, ProviderError, Transient, Unsupported
from machines.providers.types import ConsoleKind
from machines.services import gateway
from machines.services.addresses import ForeignAddress, NoAddress, ssh_address


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
    try:
        host, port = ssh_address(machine.endpoints, machine.cluster.networks)
    except NoAddress as error:
        raise refusal("no_address") from error
    except ForeignAddress as error:
        raise refusal("foreign_address") from error
    return SshTarget(host=host, port=port, username=machine.username, private_key=machine.ssh_private_key, host_key=machine.ssh_host_key or None)


def pin_host_key(machine: Machine, host_key: str) -> bool:
    """Keep the key seen at the first contact. False where another key was pinned meanwhile: then
    what answered is not the machine that is known, and nothing may be said to it."""
    if Machine.objects.filter(pk=machine.pk, ssh_host_key="").update(ssh_host_key=host_key):
        return True
    return Machine.objects.filter(pk=machine.pk, ssh_host_key=host_key).exists()
