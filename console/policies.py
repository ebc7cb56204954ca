"""When a console can be opened. Who may is said by `machines.policies.access_machine`."""

from machines.models import Machine
from machines.providers.errors import Unsupported
from machines.providers.registry import provider_class
from machines.providers.types import ConsoleKind
from machines.selectors.display import can_connect


def obstacle(machine: Machine, kind: ConsoleKind) -> str:
    """Why this console cannot be opened now, as a code of `console.endings`; "" when it can."""
    if not can_connect(machine):
        return "machine_off"
    if kind is ConsoleKind.TERMINAL and not (can_sign_in(machine) or has_text_console(machine)):
        return "no_terminal"
    return ""


def can_sign_in(machine: Machine) -> bool:
    """The portal has an account in the guest: user and key could be set when it was made."""
    return bool(machine.username and machine.ssh_private_key)


def has_text_console(machine: Machine) -> bool:
    """Its kind of cluster has text consoles of its own; whether this machine has one is said when it is opened."""
    try:
        return provider_class(machine.cluster.kind).capabilities.terminal
    except Unsupported:
        return False
