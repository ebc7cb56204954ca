"""What the console's pages read."""

from typing import Any

from django.utils.translation import gettext as _

from accounts.forms import KEYBOARDS
from console.endings import ENDINGS
from machines.models import Machine
from machines.providers.types import ConsoleKind


def endings() -> dict[str, dict[str, Any]]:
    """The words for every ending, for the page's script. `no_answer`: the portal itself is silent."""
    words = {code: {"text": str(ending.text), "again": ending.again} for code, ending in ENDINGS.items()}
    words["no_answer"] = {"text": _("The portal does not answer. Your machine goes on running."), "again": True}
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
            "connecting": _("Connecting…"),
            "connected": _("Connected."),
            "reconnecting": _("Reconnecting… %s"),
            "off": _("This machine is off."),
            "off_then": _("The console opens by itself as soon as the machine is on."),
            "ended": _("This console is closed."),
            "again": _("The connection is back."),
            "missing": _("No key of this layout makes %s: left out."),
            "too_long": _("Only the first %s characters fit."),
            "typed": _("Typed."),
            "stopped": _("Stopped. The rest was not typed."),
            "seconds": _("About %s s."),
            "copied": _("Copied."),
            "nothing": _("Nothing is selected."),
            "too_much": _("Too much output to read aloud. Go to the rows to read them."),
            "assets": _("The portal's front-end packages are not built. Tell the staff."),
        },
    }
