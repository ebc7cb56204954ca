"""One's own API tokens."""

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.forms_tokens import TokenForm
from accounts.http import address_for_others, person
from accounts.models import Scope
from accounts.reauthentication import asked_again
from accounts.services import tokens


@login_required
@require_safe
def token_list(request: HttpRequest) -> HttpResponse:
    shown = [{"token": token, "can": [Scope(scope).label for scope in token.scopes]} for token in tokens.living(person(request))]
    return render(request, "accounts/tokens.html", {"tokens": shown})


@login_required
@require_http_methods(["GET", "POST"])
@asked_again
@reauthentication_required()  # type: ignore[untyped-decorator]
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    """The form; the answer to its POST shows the secret, which is kept nowhere, so it is not redirected. Sent again it makes no second token."""
    user = person(request)
    form = TokenForm(request.POST or None, user=user)
    if form.is_valid():
        try:
            token, secret = tokens.make(user, **form.values())
        except tokens.TokenRefused as refused:
            form.add_error(refused.field or None, refused.message)
        else:
            api = address_for_others(request, reverse("api:me"))
            return render(request, "accounts/token_made.html", {"token": token, "secret": secret, "api": api})
    return render(request, "accounts/token_form.html", {"form": form}, status=409 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def revoke(request: HttpRequest, key: UUID) -> HttpResponse:
    user = person(request)
    token = get_object_or_404(user.api_tokens.select_related("user"), key=key)
    if request.method == "POST":
        tokens.revoke(token, acting_user=user)
        messages.success(request, _("The token “%(name)s” is revoked. It opens nothing any more.") % {"name": token.name})
        return redirect("accounts:tokens")
    context = {
        "title": _("Revoke the token “%(name)s”") % {"name": token.name},
        "lost": [_("Programs that use it can do nothing from then on. This cannot be undone; you can make another token.")],
        "verb": _("Revoke"),
        "back": reverse("accounts:tokens"),
    }
    return render(request, "labportal/confirm.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def revoke_all(request: HttpRequest) -> HttpResponse:
    user = person(request)
    if request.method == "GET":
        context = {
            "title": _("Revoke all API tokens"),
            "lost": [_("All programs that work in your name can do nothing from then on. This cannot be undone.")],
            "verb": _("Revoke all"),
            "back": reverse("accounts:tokens"),
        }
        return render(request, "labportal/confirm.html", context)
    if count := tokens.revoke_all(user, acting_user=user):
        messages.success(request, ngettext("%(count)d token is revoked.", "%(count)d tokens are revoked.", count) % {"count": count})
    return redirect("accounts:tokens")
