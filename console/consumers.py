"""The consoles' WebSockets, as raw ASGI callables: a Channels consumer costs a thread hop for
each frame, which is most of what a key press would take.

The way in: origin (validated outside) → signed in → ticket → policy again → target → relay.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from channels.db import database_sync_to_async

from accounts.presence import Rounds, visit
from console.credit import Credit
from console.endings import ENDINGS
from console.models import ConsoleTicket
from console.policies import has_text_console
from console.relay import bridge
from console.relay.endings import Ending, RelayError, Stop
from console.relay.flow import Terminal
from console.relay.ssh import open_ssh
from console.relay.termproxy import open_termproxy
from console.relay.vnc import VncConnection, connect_vnc
from console.services import targets, tickets
from machines.models import Machine
from machines.providers.types import ConsoleKind
from machines.services.refusal import Refused

logger = logging.getLogger(__name__)

# The page offers this name and, as a second one, "ticket." with its token: a subprotocol is in no
# URL and in no log. Only the name is answered.
SUBPROTOCOL = "labportal.console"
TICKET = "ticket."

# Whether open consoles may stay so.
rights: Rounds[int] = Rounds(tickets.review, seconds=10)

OPENERS = 8  # consoles of one cluster that are opened at the same time
COLUMNS, ROWS = 80, 24  # of a terminal until the page says its size, which it does at once

Target = TypeVar("Target")
Scope = dict[str, Any]
Carry = Callable[[ConsoleTicket, bridge.Receive, bridge.Send, Stop], Awaitable[Ending]]


async def screen(scope: Scope, receive: bridge.Receive, send: bridge.Send) -> None:
    await _serve(ConsoleKind.SCREEN, _carry_screen, scope, receive, send)


async def terminal(scope: Scope, receive: bridge.Receive, send: bridge.Send) -> None:
    await _serve(ConsoleKind.TERMINAL, _carry_terminal, scope, receive, send)


async def _serve(kind: ConsoleKind, carry: Carry, scope: Scope, receive: bridge.Receive, send: bridge.Send) -> None:
    if (await receive())["type"] != "websocket.connect":
        return
    offered = scope.get("subprotocols") or []
    token = next((name.removeprefix(TICKET) for name in offered if name.startswith(TICKET)), None)
    if SUBPROTOCOL not in offered or token is None:
        await send({"type": "websocket.close"})  # before the acceptance: a plain 403
        return
    # From here on the browser is told why: a refused handshake shows it no reason.
    await send(bridge.accept() | {"subprotocol": SUBPROTOCOL})
    try:
        ticket = await _redeem(scope, token, kind)
    except Refused as refusal:
        await _refuse(send, refusal.code)
        return
    code = "fault"
    stop = Stop()
    rights.join(ticket.pk, visit(scope), lambda due: stop.end(Ending.MACHINE_OFF if due == Ending.MACHINE_OFF else Ending.REVOKED))
    try:
        code = (await carry(ticket, receive, send, stop)).value
    except Refused as refusal:
        code = refusal.code
        logger.info("%s of %s: %s %s", kind, ticket.machine, code, refusal.__cause__ or "")
        await _refuse(send, code)
    except RelayError as error:
        code = error.code.value
        logger.info("%s of %s: %s %s", kind, ticket.machine, code, error)
        await _refuse(send, code)
    except asyncio.CancelledError:  # the browser left while the machine's side was being opened
        code = Ending.LEFT.value
        raise
    finally:
        rights.leave(ticket.pk)
        await database_sync_to_async(tickets.end)(ticket, code)


@cache
def _openers(cluster: int) -> ThreadPoolExecutor:
    """Opening a console waits for the hypervisor. These threads keep that away from everything else,
    and a cluster that does not answer keeps nobody waiting but its own."""
    return ThreadPoolExecutor(max_workers=OPENERS, thread_name_prefix=f"open-console-{cluster}")


async def _carry_screen(ticket: ConsoleTicket, receive: bridge.Receive, send: bridge.Send, stop: Stop) -> Ending:
    try:
        connection = await _open_screen(ticket)
    except RelayError as error:
        if error.code is not Ending.LOGIN:
            raise
        # A screen has one password for all its viewers: somebody else opened it meanwhile and set another.
        connection = await _open_screen(ticket)
    return await bridge.bridge_vnc(receive, send, connection, stop=stop)


async def _open_screen(ticket: ConsoleTicket) -> VncConnection:
    return await connect_vnc(await _asked(targets.screen, ticket.machine, view_only=ticket.view_only))


async def _carry_terminal(ticket: ConsoleTicket, receive: bridge.Receive, send: bridge.Send, stop: Stop) -> Ending:
    session = await _open_terminal(ticket.machine)
    credit = Credit(receive, send)
    return await bridge.bridge_terminal(credit.receive, credit.send, session, stop=stop)


async def _open_terminal(machine: Machine) -> Terminal:
    """A shell in the guest, or else the text console of the hypervisor's own, where there is one."""
    try:
        target = await database_sync_to_async(targets.shell)(machine)
    except Refused as refusal:
        if not has_text_console(machine):
            raise
        return await _open_text_console(machine, refusal)
    session = await open_ssh(target, COLUMNS, ROWS)
    if target.host_key is None and not await database_sync_to_async(targets.pin_host_key)(machine, session.host_key):
        session.close()
        raise RelayError(Ending.HOST_KEY, "two first contacts saw two keys")
    return session


async def _open_text_console(machine: Machine, no_shell: Refused) -> Terminal:
    """Raises Refused: `no_shell` where this machine has no such console either."""
    try:
        target = await _asked(targets.text_console, machine)
    except Refused as refusal:
        raise (no_shell if refusal.code == "no_terminal" else refusal) from refusal.__cause__
    return await open_termproxy(target, COLUMNS, ROWS)


async def _asked(find: Callable[..., Target], machine: Machine, **options: Any) -> Target:
    """The hypervisor's answer, waited for in the threads of its cluster."""
    answer: Target = await database_sync_to_async(find, thread_sensitive=False, executor=_openers(machine.cluster_id))(machine, **options)
    return answer


async def _redeem(scope: Scope, token: str, kind: ConsoleKind) -> ConsoleTicket:
    user = scope["user"]
    if not user.is_authenticated:
        raise tickets.refusal("signed_out")
    ticket: ConsoleTicket = await database_sync_to_async(tickets.redeem)(token, user=user, kind=kind)
    return ticket


async def _refuse(send: bridge.Send, code: str) -> None:
    await send({"type": "websocket.close", "code": ENDINGS[code].close, "reason": code})
