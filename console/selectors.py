"""What the console's pages read."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts.forms import KEYBOARDS
from console.endings import ENDINGS
from machines.models import Machine
from machines.providers.types import ConsoleKind


def endings() -> dict[str, dict[str, Any]]:
    """The words for every ending, for the page's script. `no_answer`: the portal itself is silent."""
    words = {code: {"text": str(ending.text), "again": ending.again} for code, ending in ENDINGS.items()}
    words["no_answer"] = {"text": str(_("The portal does not answer. Your machine goes on running.")), "again": True}
    return words


def layout_of(machine: Machine) -> str:
    """The layout the machine was made with: that of its owner."""
    keyboard = machine.owner.keyboard if machine.owner else "us"
    return keyboard if keyboard in dict(KEYBOARDS) else "us"


def page(machine: Machine, kind: ConsoleKind, *, watch: bool) -> dict[str, Any]:
    """What the script of a console page has to know and may not find in the page itself."""
    return {
        "kind": str(kind),
        "machine": str(machine.key),
        "watch": watch,
        "layout": layout_of(machine),
        "endings": endings(),
        "words": {
            "connecting": str(_("Connecting…")),
            "connected": str(_("Connected.")),
            "reconnecting": str(_("Reconnecting… %s")),
            "off": str(_("This machine is off.")),
            "off_then": str(_("The console opens by itself as soon as the machine is on.")),
            "ended": str(_("This console is closed.")),
            "again": str(_("The connection is back.")),
            "missing": str(_("No key of this layout makes %s: left out.")),
            "too_long": str(_("Only the first %s characters fit.")),
            "typed": str(_("Typed.")),
            "stopped": str(_("Stopped. The rest was not typed.")),
            "seconds": str(_("About %s s.")),
            "copied": str(_("Copied.")),
            "nothing": str(_("Nothing is selected.")),
            "assets": str(_("The portal's front-end packages are not built. Tell the staff.")),
        },
    }
