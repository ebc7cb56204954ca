"""The console pages, and the tickets they ask for."""

from typing import Any
from uuid import UUID

from csp.constants import NONCE
from csp.decorators import csp_update
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.forms import KEYBOARDS
from accounts.models import User
from console import selectors
from console.endings import ENDINGS
from console.services import tickets
from machines.models import Machine
from machines.policies import access_machine
from machines.providers.types import ConsoleKind
from machines.selectors.display import can_connect
from machines.services.refusal import Refused

STATUS = {"too_many": 429}  # else 409


@login_required
@require_GET
@never_cache
def screen(request: HttpRequest, key: UUID) -> HttpResponse:
    return _page(request, key, ConsoleKind.SCREEN)


@login_required
@require_GET
@never_cache
# xterm.js makes style sheets while it runs; its page gives them this nonce, everything else stays forbidden.
@csp_update({"style-src": [NONCE]})  # type: ignore[arg-type]  # typed for views without arguments
def terminal(request: HttpRequest, key: UUID) -> HttpResponse:
    return _page(request, key, ConsoleKind.TERMINAL)


@login_required
@require_GET
@never_cache
def state(request: HttpRequest, key: UUID) -> HttpResponse:
    """The machine's state as the console's bar shows it."""
    return render(request, "console/_state.html", _standing(_machine(request, key)))


@require_POST
@never_cache
def ticket(request: HttpRequest, key: UUID) -> JsonResponse:
    """JSON for the page's script: {token, expires}, or {code, text} saying why not."""
    if not isinstance(request.user, User):
        return JsonResponse({"code": "signed_out", "text": str(ENDINGS["signed_out"].text)}, status=401)
    machine = access_machine(request.user, key)
    watch = request.POST.get("view_only") == "1"
    try:
        kind = ConsoleKind(request.POST.get("kind", ""))
    except ValueError:
        return _bad_request()
    if watch and kind is not ConsoleKind.SCREEN:
        return _bad_request()
    try:
        issued = tickets.issue(acting_user=request.user, machine=machine, kind=kind, view_only=watch)
    except Refused as refusal:
        return JsonResponse({"code": refusal.code, "text": refusal.message}, status=STATUS.get(refusal.code, 409))
    return JsonResponse({"token": issued.token, "expires": issued.expires_at.isoformat()})


def _bad_request() -> JsonResponse:
    return JsonResponse({"code": "bad_input", "text": str(ENDINGS["bad_input"].text)}, status=400)


def _machine(request: HttpRequest, key: UUID) -> Machine:
    assert isinstance(request.user, User)  # login_required
    return access_machine(request.user, key)


def _standing(machine: Machine) -> dict[str, Any]:
    return {"machine": machine, "is_on": can_connect(machine), "topic": f"machine:{machine.key}"}


def _page(request: HttpRequest, key: UUID, kind: ConsoleKind) -> HttpResponse:
    machine = _machine(request, key)
    watch = request.GET.get("watch") == "1" and kind is ConsoleKind.SCREEN
    context = _standing(machine) | {
        "watch": watch,
        "layouts": KEYBOARDS,
        "layout": selectors.layout_of(machine),
        "page": selectors.page(machine, kind, watch=watch) | {"ticketUrl": reverse("console:ticket", args=[machine.key]), "socketPath": f"/console/{kind}/"},
    }
    return render(request, f"console/{kind}.html", context)
