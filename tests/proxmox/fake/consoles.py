"""Consoles of both kinds of guests: tickets, ports, the window to connect, and the WebSockets."""

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass, field

from aiohttp import web
from fakepve.model import PveError, TaskError
from fakepve.routing import die, param_error
from fakepve.server import USER, ok, params

from .rfb import Screen, Viewer
from .terminal import Terminal
from .wire import Gone, Wire

PORTS = range(5900, 6000)
PREFIX = [chr(code) for code in range(ord("!"), ord("`") + 1)]
LARGEST_MESSAGE = 128 << 10
INVALID = "permission denied - invalid PVEVNC ticket"
PROXY_SECONDS = 30  # how long pveproxy waits for a port nobody listens on
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


@dataclass(eq=False)
class Console:
    guest: object
    user: str
    text: bool
    endpoint: int  # the port of the API it was asked for on: the only place it can be opened
    port: int
    ticket: str
    password: str
    answer: dict[str, str] = field(default_factory=dict)
    born: float = field(default_factory=time.monotonic)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class ConsoleRules:
    """Mixin of the fake cluster."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.console_window = 10.0  # real seconds to connect after asking
        self.console_seconds = 0.0  # real seconds after which an open one is cut; 0 for never
        self.consoles: list[Console] = []
        self._given: dict[str, float] = {}  # tickets, and when
        self.screens: dict[int, Screen] = {}
        self.terminals: dict[int, Terminal] = {}
        self.tokens_may_use_terminals = True  # PVE since April 2026

    def _lxc_routes(self, router, node):
        super()._lxc_routes(router, node)
        router.add_post(node + "/lxc/{vmid}/vncproxy", self._vncproxy)
        router.add_post(node + "/lxc/{vmid}/termproxy", self._termproxy)
        router.add_get(node + "/lxc/{vmid}/vncwebsocket", self._vncwebsocket)

    # -- asking -----------------------------------------------------------------------------------

    def _console_guest(self, request):
        node, vmid = request.match_info["node"], request.match_info["vmid"]
        self.require(request[USER], f"/vms/{vmid}", "VM.Console")
        return self._find_ct(node, vmid) if "/lxc/" in request.path else self.find(node, vmid)

    async def _vncproxy(self, request):
        """QEMU answers with a `password`; containers' VNC takes the ticket for one (observed on PVE 9.2)."""
        guest = self._console_guest(request)
        asked = self._verify(request, await params(request))
        console = await self._ask(request, guest, "vncproxy", text=False)
        if guest in self.cts or not (asked.get("websocket") or asked.get("generate-password")):
            console.password = console.ticket
        return ok(console.answer | ({} if console.password == console.ticket else {"password": console.password}))

    async def _termproxy(self, request):
        guest = self._console_guest(request)
        if guest in self.vms and not any(key.startswith("serial") for key in guest.config):
            raise die("unable to find a serial interface")
        console = await self._ask(request, guest, "vncproxy" if guest in self.vms else "vzproxy", text=True)
        return ok(console.answer)

    async def _ask(self, request, guest, ttype, text):
        used = {console.port for console in self.consoles}
        port = next((port for port in PORTS if port not in used), None)
        if port is None:
            raise die("unable to find free port (5900-5999)")
        ticket = "".join(secrets.choice(PREFIX) for _ in range(8)) + f":PVEVNC:{int(time.time()):08X}::{secrets.token_urlsafe(48)}=="
        console = Console(guest, request[USER], text, _entry(request), port, ticket, secrets.token_hex(4))
        self.consoles.append(console)
        self._given[ticket] = console.born
        window = self.console_window

        async def body():
            try:
                async with asyncio.timeout(window):
                    await console.connected.wait()
                if guest.status != "running":
                    raise TaskError("Failed to run vncproxy.")
                await console.closed.wait()
            except TimeoutError:
                raise TaskError("connection timed out") from None
            finally:
                self.consoles.remove(console)

        upid = await self.task(guest.node, ttype, guest.vmid, request[USER], body, background=True)
        console.answer = {"port": str(port), "ticket": ticket, "user": request[USER], "upid": upid, "cert": NO_CERTIFICATE}
        return console

    # -- connecting -----------------------------------------------------------------------------------

    async def _vncwebsocket(self, request):
        """The ticket is good for its user, guest and port. After the window, or a second time, or at another
        node nobody listens on the port and the handshake hangs (observed on PVE 9.2)."""
        guest = self._console_guest(request)
        if not request.query.get("port") or not request.query.get("vncticket"):
            raise param_error(**{name: "property is missing and it is not optional" for name in ("port", "vncticket") if not request.query.get(name)})
        console = self._asked(request, guest)
        if console is None or console.connected.is_set() or console.endpoint != _entry(request):
            await asyncio.sleep(PROXY_SECONDS)
            raise PveError(596, "Connection timed out")
        console.connected.set()
        socket = web.WebSocketResponse(protocols=("binary",), max_msg_size=LARGEST_MESSAGE, compress=False)
        await socket.prepare(request)
        try:
            if guest.status == "running":
                await self._until_off(guest, self._serve(Wire(socket), console))
        finally:
            console.closed.set()
            await socket.close()
        return socket

    def _asked(self, request, guest):
        given, user = request.query["vncticket"], request[USER]
        for console in self.consoles:
            if hmac.compare_digest(console.ticket.encode(), given.encode()):
                if (console.guest, console.user, str(console.port)) == (guest, user, request.query["port"]):
                    return console
                raise PveError(401, INVALID)
        if time.monotonic() - self._given.get(given, -self.vnc_ticket_ttl) < self.vnc_ticket_ttl:
            return None
        raise PveError(401, INVALID)

    async def _serve(self, wire, console):
        guest = console.guest
        try:
            if not console.text:
                await Viewer(wire, self.screens.setdefault(guest.vmid, Screen()), guest.name).serve(console.password)
            elif "!" not in console.user or self.tokens_may_use_terminals:
                greeting = b"" if guest in self.cts else b"starting serial terminal on interface serial0 (press Ctrl+O to exit)\r\n"
                await self.terminals.setdefault(guest.vmid, Terminal()).serve(wire, console.user, console.ticket, greeting)
        except Gone:
            pass

    async def _until_off(self, guest, serving):
        """A console ends with the guest's power, and with its move to another node."""
        node, began = guest.node, time.monotonic()
        served = asyncio.ensure_future(serving)
        while not served.done():
            await asyncio.wait([served], timeout=0.1)
            gone = guest.status != "running" or guest.node != node or self.guest(guest.vmid) is not guest
            if gone or 0 < self.console_seconds < time.monotonic() - began:
                served.cancel()
                await asyncio.wait([served])


def _entry(request):
    return request.transport.get_extra_info("sockname")[1]
