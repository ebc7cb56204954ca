"""The consoles' WebSocket paths."""

from django.urls import path

from . import consumers

websocket_urlpatterns = [
    path("console/screen/", consumers.screen),  # type: ignore[arg-type]  # an ASGI callable, no view
    path("console/terminal/", consumers.terminal),  # type: ignore[arg-type]
]
