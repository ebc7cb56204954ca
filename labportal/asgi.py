"""HTTP and WebSockets on one port."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labportal.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator

from accounts.middleware import socket_not_viewing, socket_origin, socket_second_factor
from labportal.routing import websocket_urlpatterns

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": socket_origin(
            AllowedHostsOriginValidator(AuthMiddlewareStack(socket_second_factor(socket_not_viewing(URLRouter(websocket_urlpatterns)))))
        ),
    }
)
