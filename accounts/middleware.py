"""What belongs to every request of a person."""

import io
from collections.abc import Awaitable, Callable
from typing import Any

from channels.db import database_sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from accounts.adapter import address_of
from accounts.http import by_htmx
from accounts.models import User
from accounts.policies import needs_second_factor
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


# What people do who have to set up a second factor: that, and leave.
_WITHOUT_SECOND_FACTOR = {
    "mfa_index",
    "mfa_activate_totp",
    "mfa_add_webauthn",
    "mfa_list_webauthn",
    "mfa_view_recovery_codes",
    "account_reauthenticate",
    "account_logout",
    "accounts:stop_viewing",
    "set_language",
    "labportal:health",
    "labportal:alive",
}


class SecondFactorRequired:
    """Whose role must have a second factor and who has none is led to where it is set up, from wherever they go."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        user = getattr(request, "viewed_by", None) or request.user
        match = request.resolver_match
        if not isinstance(user, User) or (match and match.view_name in _WITHOUT_SECOND_FACTOR) or not needs_second_factor(user):
            return None
        return HttpResponseClientRedirect(reverse("mfa_index")) if by_htmx(request) else redirect("mfa_index")


def socket_second_factor(application: Socket) -> Socket:
    """The same for WebSockets: those of such a person are not opened."""

    async def with_second_factor(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        user = scope["user"]
        if user.is_authenticated and await database_sync_to_async(needs_second_factor)(user):
            await receive()
            await send({"type": "websocket.close"})
            return
        await application(scope, receive, send)

    return with_second_factor
