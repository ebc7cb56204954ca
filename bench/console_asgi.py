"""The portal's application with one more path: a screen for whoever is signed in, without a ticket."""

import os

from labportal.asgi import django_application  # isort: skip  # first: it sets Django up

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from console.relay import bridge
from console.relay.endings import Stop
from console.relay.vnc import VncTarget, connect_vnc
from labportal.routing import websocket_urlpatterns


async def screen(scope: dict[str, object], receive: bridge.Receive, send: bridge.Send) -> None:
    await receive()
    if not scope["user"].is_authenticated:  # type: ignore[attr-defined]
        await send({"type": "websocket.close"})
        return
    await send(bridge.accept())
    await bridge.bridge_vnc(receive, send, await connect_vnc(VncTarget("127.0.0.1", int(os.environ["BENCH_VNC_PORT"]))), stop=Stop())


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([path("bench/screen/", screen), *websocket_urlpatterns]))),
    }
)
