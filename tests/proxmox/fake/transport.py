"""How pveproxy talks HTTP: answers without a body, late 401s, closed connections, limits, and faults on demand."""

import asyncio
import collections
import re
import ssl
from dataclasses import dataclass

from aiohttp import web
from fakepve.server import API

BARE = {401, 501, 595, 596, 597, 598, 599}  # these carry their reason in the first line and nothing else
LARGEST_BODY = 512 << 10
IDLE_SECONDS = 5
HANGING_SECONDS = 600  # longer than any client waits


@dataclass
class Fault:
    """Trouble for coming calls of `method` whose path template or path matches `path` (a regular expression).

    status, message: the answer, instead of doing it; with `done` the work is done all the same.
    delay: PVE seconds before anything else. drop: the connection is cut; hang: no answer ever comes.
    """

    method: str
    path: str
    times: int = 1
    skip: int = 0  # let so many pass first
    status: int = 0
    message: str = ""
    html: bool = False
    done: bool = False
    delay: float = 0.0
    drop: bool = False
    hang: bool = False


class Endpoint:
    """One node's port 8006."""

    def __init__(self, application, context, port=0):
        self._application, self._context, self.port, self._runner = application, context, port, None

    async def up(self):
        self._runner = web.AppRunner(self._application(), keepalive_timeout=IDLE_SECONDS, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def down(self):
        if self._runner:
            await self._runner.cleanup()
            self._runner = None


class Transport:
    """Mixin of the fake cluster."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.faults: list[Fault] = []
        self.calls = collections.Counter()  # "GET /cluster/resources" -> how often
        self.at_once = self.most_at_once = 0
        self.endpoints: list[Endpoint] = []
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    async def serve(self, certificate, key, endpoints):
        self.use_certificate(certificate, key)
        for _ in range(endpoints):
            endpoint = Endpoint(self._build_app, self.context)
            await endpoint.up()
            self.endpoints.append(endpoint)

    def use_certificate(self, certificate, key):
        """New connections get this one."""
        self.context.load_cert_chain(certificate, key)

    def _build_app(self):
        application = super()._build_app()
        application.middlewares.insert(0, self._transport)
        return application

    @web.middleware
    async def _transport(self, request, handler):
        template = self.path_template(request)
        self.calls[f"{request.method} {template}"] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            response = await self._respond(request, handler, template)
        finally:
            self.at_once -= 1
        if not isinstance(response, web.Response):
            return response  # a WebSocket
        if response.status == 401:
            await self.pause(3)  # observed on PVE 9.2, against guessing
        if response.status in BARE:
            response = web.Response(status=response.status, reason=response.reason)
        if response.status >= 400:
            response.force_close()
        response.headers["Server"] = "pve-api-daemon/3.0"
        return response

    async def _respond(self, request, handler, template):
        refused = self._limits(request)
        if refused:
            return refused
        fault = self._next_fault(request, template)
        if not fault:
            return await self._handled(request, handler)
        await self.pause(fault.delay)
        response = await self._handled(request, handler) if fault.done or not (fault.status or fault.drop or fault.hang) else None
        if fault.hang:
            await asyncio.sleep(HANGING_SECONDS)
        if fault.drop:
            request.transport.abort()
            raise ConnectionResetError
        if not fault.status:
            return response
        if fault.html:
            return web.Response(status=fault.status, text=fault.message, content_type="text/html")
        reason = (fault.message.splitlines() or [""])[0]
        return web.json_response({"data": None, "message": fault.message + "\n"}, status=fault.status, reason=reason or None)

    @staticmethod
    async def _handled(request, handler):
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.json_response({"data": None}, status=error.status, reason=error.reason)

    def _limits(self, request):
        """Observed on PVE 9.2: 512 KiB for bodies, then the connection is cut; none with DELETE; no chunks."""
        length = request.content_length or 0
        if length > LARGEST_BODY and "/upload" not in request.path:
            request.transport.abort()
            raise ConnectionResetError
        if request.method == "DELETE" and length:
            return web.Response(status=501, reason="Unexpected content for method 'DELETE'")
        if request.headers.get("Transfer-Encoding"):
            return web.Response(status=501, reason="chunked transfer encoding not supported")
        return None

    def _next_fault(self, request, template):
        for fault in self.faults:
            hit = fault.times > 0 and fault.method in ("*", request.method)
            if hit and (re.fullmatch(fault.path, template) or re.fullmatch(fault.path, request.path.removeprefix(API))):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None
