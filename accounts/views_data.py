"""What the portal keeps of oneself: to take away, and to have removed."""

from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from allauth.core import ratelimit
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.http import person
from accounts.reauthentication import asked_again
from accounts.services import removal
from accounts.services.export import export as export_of


@login_required
@require_safe
def data(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/data.html", {"asked_at": person(request).removal_asked_at})


@login_required
@require_http_methods(["GET", "POST"])
def export(request: HttpRequest) -> HttpResponse:
    """The page before the file, and by POST the file. Whoever must give their password again is led to the
    page first: a file that comes as the answer to a password would leave them before the question."""
    if request.method == "POST" and is_reauthentication_required(request, app=""):
        return redirect("accounts:export")
    answer: HttpResponse = _export(request)
    return answer


@reauthentication_required  # type: ignore[untyped-decorator]  # allauth has no types
@asked_again
def _export(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "accounts/export.html")
    if not ratelimit.consume(request, action="export", user=person(request)):
        messages.error(request, _("You had your data several times within the hour. Wait an hour, then try again."))
        return redirect("accounts:export")
    response = JsonResponse(export_of(person(request)), json_dumps_params={"indent": 2, "ensure_ascii": False})
    name = f"{_plain(person(request).username)}-{timezone.now():%Y-%m-%d}.json"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _plain(name: str) -> str:
    """As a file name for every system."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.@") else "_" for letter in name)


@login_required
@reauthentication_required  # type: ignore[untyped-decorator]
@asked_again
@require_http_methods(["GET", "POST"])
def ask_removal(request: HttpRequest) -> HttpResponse:
    user = person(request)
    if request.method == "POST":
        removal.ask(user)
        messages.success(request, _("You have asked to be removed. The people who run the portal decide; until then you may take it back."))
        return redirect("accounts:data")
    lost = [
        _("The people who run the portal are asked to remove your account. They decide, and may ask you first."),
        *removal.holdings(user),
        _("Until they have decided nothing changes: you sign in and use your machines as before."),
    ]
    context: dict[str, Any] = {"title": _("Ask to be removed"), "lost": lost, "verb": _("Ask to be removed"), "back": reverse("accounts:data")}
    return render(request, "labportal/confirm.html", context)


@login_required
@require_POST
def take_back(request: HttpRequest) -> HttpResponse:
    if removal.take_back(person(request)):
        messages.success(request, _("Your account stays."))
    return redirect("accounts:data")
