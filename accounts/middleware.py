"""What belongs to every request of a person."""

import io
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from accounts.adapter import address_of
from accounts.services import audit

Answer = Callable[[HttpRequest], HttpResponse]
Scope = dict[str, Any]
Socket = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Origin:
    """The record knows where a request came from, and who looks at the portal as somebody else."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with audit.origin(address=address_of(request)):
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        # When every middleware has had the request, wherever it stands in their order.
        if staff := getattr(request, "viewed_by", None):
            audit.add_to_origin(viewed_by=staff)


def socket_origin(application: Socket) -> Socket:
    """The same for WebSockets, which no middleware of Django's sees."""

    async def with_origin(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        handshake = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
        with audit.origin(address=address_of(handshake)):
            await application(scope, receive, send)

    return with_origin
