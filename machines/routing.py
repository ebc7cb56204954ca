"""The WebSocket path of live pages."""

from django.urls import path

from . import consumers

websocket_urlpatterns = [path("live/", consumers.live)]  # type: ignore[arg-type]  # an ASGI callable, no view
