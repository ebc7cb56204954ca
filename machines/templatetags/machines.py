"""How pages show machines."""

from typing import Any

from django import template

from machines.models import Machine
from machines.selectors import display

register = template.Library()


@register.inclusion_tag("machines/_state.html")
def state(machine: Machine) -> dict[str, Any]:
    """The state as icon, word and colour. The machine comes with its cluster."""
    return {"shown": display.shown(machine), "machine": machine}


@register.inclusion_tag("machines/_seen.html")
def seen(machine: Machine) -> dict[str, Any]:
    """“as of 3 s ago”, amber with the reason when the cluster, or the machine's node, has not answered."""
    return {
        "machine": machine,
        "cluster": machine.cluster,
        "stale": display.is_stale(machine.cluster),
        "silent": display.is_silent(machine),
        "stale_after": int(display.STALE_AFTER.total_seconds()),
    }


@register.filter
def can(machine: Machine, what: str) -> bool:
    """{% if machine|can:"start" %}: start, stop, restart, revert, change, retry, destroy, connect."""
    return bool(getattr(display, f"can_{what}")(machine))


@register.filter
def why_no_console(machine: Machine) -> str:
    return display.why_no_console(machine)
