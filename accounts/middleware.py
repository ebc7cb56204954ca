"""What belongs to every request of a person."""

import io
from collections.abc import Awaitable, Callable
from typing import Any

from channels.db import database_sync_to_async
from django.contrib import messages
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect

from accounts import viewing
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


class ViewingAs:
    """Staff look at the portal as somebody else sees it (`accounts.viewing`): `request.user` is that person then and
    `request.viewed_by` the member of staff, else None. Nothing can be changed, here and in the database, and what is
    the person's alone is not shown. The last of the middleware, so that all others know whose session it is."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.viewed_by = None  # type: ignore[attr-defined]
        staff = request.user
        if viewing.KEY not in request.session or not isinstance(staff, User):
            return self.get_response(request)
        name = _view_name(request)
        if request.method == "POST" and name == viewing.SIGN_OUT:
            viewing.end(request, staff, "signed_out")
        user = viewing.viewed(request, staff)
        if user is None or (request.method == "POST" and name == viewing.STOP):
            return self.get_response(request)
        request.user, request.viewed_by = user, staff  # type: ignore[attr-defined]
        if request.method not in ("GET", "HEAD") or not viewing.is_shown(name):
            return self._refuse(request)
        with connection.execute_wrapper(viewing.refuse_writes):
            return self.get_response(request)

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        if by_htmx(request):
            messages.error(request, _("You see the portal as %(user)s. Nothing can be changed.") % {"user": request.user})
            return HttpResponse(status=403)
        return render(request, "accounts/only_viewed.html", {"changing": request.method not in ("GET", "HEAD")}, status=403)


def _view_name(request: HttpRequest) -> str:
    try:
        return resolve(request.path_info).view_name
    except Resolver404:
        return ""


def socket_not_viewing(application: Socket) -> Socket:
    """WebSockets know the session of the member of staff alone: what they carried would not be what the person sees, and
    consoles are not looked into."""

    async def not_viewing(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["user"].is_authenticated and viewing.KEY in scope["session"]:
            await receive()
            await send({"type": "websocket.close"})
            return
        await application(scope, receive, send)

    return not_viewing
