"""When a console can be opened. Who may is said by `machines.policies.access_machine`."""

from machines.lifecycle import State
from machines.models import Machine
from machines.providers.types import ConsoleKind, Power


def is_on(machine: Machine) -> bool:
    """On as far as is known: one may watch a machine start and shut down."""
    return machine.state == State.RUNNING or (machine.power == Power.ON and (machine.is_moving or machine.state == State.FAILED))


def obstacle(machine: Machine, kind: ConsoleKind) -> str:
    """Why this console cannot be opened now, as a code of `console.endings`; "" when it can."""
    if not is_on(machine):
        return "machine_off"
    if kind is ConsoleKind.TERMINAL and not (machine.username and machine.ssh_private_key):
        return "no_terminal"
    return ""
