"""Every WebSocket path of the portal."""

from console.routing import websocket_urlpatterns as console_urlpatterns

websocket_urlpatterns = [*console_urlpatterns]
