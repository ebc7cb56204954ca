"""Where a console is found and how the portal signs in there. Nothing of it reaches the browser."""

from console.policies import can_sign_in
from console.relay.ssh import SshTarget
from console.relay.termproxy import TermproxyTarget
from console.relay.vnc import VncTarget
from console.relay.websocket import WebSocketAddress
from console.services.tickets import refusal
from machines.models import Machine
from machines.providers.errors import NotRunning, ProviderError, Transient, Unsupported
from machines.providers.types import ConsoleKind, ConsoleTarget
from machines.services import gateway
from machines.services.addresses import ForeignAddress, NoAddress, disputed, ssh_address


def screen(machine: Machine, *, view_only: bool) -> VncTarget:
    """Open the screen at the hypervisor. Blocks for up to a provider call (20 s), so it belongs in
    a thread of its own. Raises Refused: machine_off, no_screen, unreachable, fault."""
    opened = _open(machine, ConsoleKind.SCREEN, "no_screen")
    websocket = _websocket(opened) if opened.url else None
    return VncTarget(host=opened.host, port=opened.port, path=opened.path, websocket=websocket, password=opened.password, view_only=view_only)


def shell(machine: Machine) -> SshTarget:
    """A shell in the guest. Raises Refused: no_terminal, no_address, foreign_address."""
    if not can_sign_in(machine):
        raise refusal("no_terminal")
    try:
        host, port = ssh_address(machine.endpoints, machine.cluster.networks, disputed(machine))
    except NoAddress as error:
        raise refusal("no_address") from error
    except ForeignAddress as error:
        raise refusal("foreign_address") from error
    return SshTarget(host=host, port=port, username=machine.username, private_key=machine.ssh_private_key, host_key=machine.ssh_host_key or None)


def text_console(machine: Machine) -> TermproxyTarget:
    """Open the text console of the hypervisor's own. Blocks as `screen` does.
    Raises Refused: machine_off, no_terminal, unreachable, fault."""
    opened = _open(machine, ConsoleKind.TERMINAL, "no_terminal")
    return TermproxyTarget(_websocket(opened), opened.greeting)


def _open(machine: Machine, kind: ConsoleKind, missing: str) -> ConsoleTarget:
    try:
        return gateway.provider_for(machine.cluster).open_console(gateway.identity(machine), machine.ref, kind)
    except NotRunning as error:
        raise refusal("machine_off") from error
    except Unsupported as error:
        raise refusal(missing) from error
    except Transient as error:
        raise refusal("unreachable") from error
    except ProviderError as error:
        raise refusal("fault") from error


def _websocket(opened: ConsoleTarget) -> WebSocketAddress:
    return WebSocketAddress(url=opened.url, headers=opened.headers, ca=opened.ca, fingerprint=opened.fingerprint)


def pin_host_key(machine: Machine, host_key: str) -> bool:
    """Keep the key seen at the first contact. False where another key was pinned meanwhile: then
    what answered is not the machine that is known, and nothing may be said to it."""
    if Machine.objects.filter(pk=machine.pk, ssh_host_key="").update(ssh_host_key=host_key):
        return True
    return Machine.objects.filter(pk=machine.pk, ssh_host_key=host_key).exists()
