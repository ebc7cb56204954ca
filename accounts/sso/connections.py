"""The accounts of single sign-on that somebody has connected with their own."""

from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.http import person
from accounts.services import links

from .adapter import SocialAccountAdapter

_PREFIX = "sso:"


@login_required
@require_http_methods(["GET", "POST"])
def connections(request: HttpRequest) -> HttpResponse:
    """POST takes the connection `identity` away."""
    if request.method == "POST":
        raise_if_reauthentication_required(request, app="allauth.socialaccount")
        chosen = request.POST.get("identity", "")
        try:
            links.unlink(person(request), int(chosen) if chosen.isdecimal() and len(chosen) < 19 else 0, prefix=_PREFIX)
            messages.success(request, _("The account is no longer connected."))
        except links.LinkRefused as refused:
            messages.error(request, refused.message)
        return redirect("accounts:connections")
    providers = SocialAccountAdapter(request).list_providers(request)
    names = {f"{_PREFIX}{provider.sub_id}": str(provider) for provider in providers}
    connected = person(request).identities.filter(source__startswith=_PREFIX)
    rows = [{"identity": identity, "system": names.get(identity.source, identity.source.removeprefix(_PREFIX))} for identity in connected]
    return render(request, "socialaccount/connections.html", {"connected": rows, "providers": providers})
