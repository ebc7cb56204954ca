"""When a console can be opened. Who may is said by `machines.policies.access_machine`."""

from machines.models import Machine
from machines.providers.types import ConsoleKind
from machines.selectors.display import can_connect


def obstacle(machine: Machine, kind: ConsoleKind) -> str:
    """Why this console cannot be opened now, as a code of `console.endings`; "" when it can."""
    if not can_connect(machine):
        return "machine_off"
    if kind is ConsoleKind.TERMINAL and not (machine.username and machine.ssh_private_key):
        return "no_terminal"
    return ""
