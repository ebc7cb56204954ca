"""How a console ends: the words for people, and whether the page may connect again by itself.

The close frame carries the code as its reason. The relay's own endings keep their names and
numbers (`console.relay.endings`); those before a relay is at work are added here.
"""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from console.relay.endings import Ending as Relayed


@dataclass(frozen=True, slots=True)
class Ending:
    """`close` is the WebSocket close code. `again`: a new attempt may well succeed."""

    close: int
    text: Promise
    again: bool = False


def _relayed(ending: Relayed, text: Promise, *, again: bool = False) -> tuple[str, Ending]:
    return ending.value, Ending(ending.close_code, text, again)


ENDINGS: dict[str, Ending] = dict(
    [
        _relayed(Relayed.LEFT, _("You ended this console.")),
        _relayed(Relayed.EXITED, _("The session has ended.")),
        _relayed(Relayed.CLOSED, _("The machine closed the connection."), again=True),
        _relayed(Relayed.REVOKED, _("This console was closed: you may not use this machine any more, or it was ended elsewhere.")),
        _relayed(Relayed.MACHINE_OFF, _("This machine is off. Start the machine first.")),
        _relayed(Relayed.REFUSED, _("The machine does not answer yet. It may still be starting."), again=True),
        _relayed(Relayed.TIMEOUT, _("The machine does not answer. It may be busy or still starting."), again=True),
        _relayed(Relayed.LOGIN, _("The machine does not accept the portal's key. Sign in on the screen, or revert the machine.")),
        _relayed(
            Relayed.HOST_KEY,
            _("The machine shows another host key than at the first contact, so the portal did not sign in. Revert the machine, or tell the staff."),
        ),
        _relayed(Relayed.TOO_SLOW, _("The connection stood still for too long."), again=True),
        _relayed(Relayed.PROTOCOL, _("The machine does not speak as a console should. Tell the staff.")),
        _relayed(Relayed.BAD_INPUT, _("The browser sent something that is no console input. Reload the page.")),
        _relayed(Relayed.CERTIFICATE, _("The cluster shows a certificate that the portal does not trust, so nothing was sent to it. Tell the staff.")),
    ]
) | {
    "signed_out": Ending(4101, _("You are signed out. Sign in and open the console again.")),
    "ticket": Ending(4102, _("The connection took too long to begin."), again=True),
    "too_many": Ending(4103, _("Too many consoles are open. Close one in another window, wait a minute and try again.")),
    "no_screen": Ending(4104, _("This machine has no screen that can be shown. Use the terminal.")),
    "no_terminal": Ending(4105, _("This machine has no terminal. Use the screen.")),
    "no_address": Ending(4106, _("The machine has no address yet. It may still be starting."), again=True),
    "foreign_address": Ending(4107, _("The machine claims an address outside the networks of its cluster. The portal does not connect there. Tell the staff.")),
    "unreachable": Ending(4108, _("The cluster does not answer at the moment. The machine may still be running."), again=True),
    "fault": Ending(4109, _("The cluster could not open this console."), again=True),
}
