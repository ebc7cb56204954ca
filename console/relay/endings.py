"""Why a console ends, and how the browser is told."""

import asyncio
from enum import StrEnum


class Ending(StrEnum):
    """The reason in a console's close frame. Pages turn it into a sentence."""

    LEFT = "left"  # the browser closed
    EXITED = "exited"  # the shell of a terminal ended
    CLOSED = "closed"  # the machine's side closed
    REVOKED = "revoked"  # the right to this console ended
    MACHINE_OFF = "machine_off"
    REFUSED = "refused"  # nothing listens at the machine's address, or it hangs up at once
    TIMEOUT = "timeout"
    LOGIN = "login"  # the machine did not take password or key
    HOST_KEY = "host_key"  # another host key than the pinned one
    TOO_SLOW = "too_slow"  # one side took nothing for a minute
    PROTOCOL = "protocol"  # the machine speaks something else
    BAD_INPUT = "bad_input"  # the browser does
    CERTIFICATE = "certificate"  # the hypervisor is not the one that is trusted

    @property
    def close_code(self) -> int:
        """The WebSocket close code: 1000 for what is as it should be, otherwise 4000 and up."""
        return _CLOSE_CODES[self]


_CLOSE_CODES = {
    Ending.LEFT: 1000,
    Ending.EXITED: 1000,
    Ending.CLOSED: 4000,
    Ending.REVOKED: 4001,
    Ending.MACHINE_OFF: 4002,
    Ending.REFUSED: 4003,
    Ending.TIMEOUT: 4004,
    Ending.LOGIN: 4005,
    Ending.HOST_KEY: 4006,
    Ending.TOO_SLOW: 4007,
    Ending.PROTOCOL: 4008,
    Ending.BAD_INPUT: 4009,
    Ending.CERTIFICATE: 4010,
}


class RelayError(Exception):
    """A console that cannot be opened or has to end. `message` is for logs, not for people."""

    def __init__(self, code: Ending, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Stop(asyncio.Event):
    """Ends a console from outside; `ending` is what its browser is told."""

    ending = Ending.REVOKED

    def end(self, ending: Ending) -> None:
        self.ending = ending
        self.set()
