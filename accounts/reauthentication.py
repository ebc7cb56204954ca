"""Asking people again who they are, before they change how they sign in.

allauth asks for the portal's own password or for a second factor. Here people of the directory
and of realms, whose password is checked elsewhere, are asked for it as well; and whoever has
signed in a moment ago is not asked at once again.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from allauth.core import context
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from .http import person
from .models import DIRECTORY, User
from .policies import realm_names, signs_in_by_sso_alone
from .services.identities import password_is_elsewhere

View = Callable[..., HttpResponse]


def password_is_checked_elsewhere(user: User) -> bool:
    """Whether this person types a password here that another system checks: the directory, or a realm of a cluster. That
    of single sign-on is typed there."""
    return password_is_elsewhere(user) and not signs_in_by_sso_alone(user)


def signed_in_just_now(request: HttpRequest) -> bool:
    records = get_authentication_records(request, person(request))
    return bool(records) and time.time() - records[-1]["at"] < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT


class AsksAgain(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """The part of the account adapter for it."""

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        return bool(super().is_reauthentication_required(app=app, **kwargs)) and not signed_in_just_now(context.request)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """In the order in which they are offered: password, code, key."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if user.is_authenticated and password_is_checked_elsewhere(user):
            methods.insert(0, {"id": "reauthenticate", "url": reverse("account_reauthenticate")})
        words = {"reauthenticate": _("Use your password"), "mfa_reauthenticate": _("Use a code"), "mfa_reauthenticate:webauthn": _("Use a security key")}
        return [method | {"description": words[method["id"]]} for method in methods]

    def reauthenticate(self, user: User, password: str) -> bool:
        if not password_is_checked_elsewhere(user):
            return bool(super().reauthenticate(user, password)) and self._stays(user)
        names = [*user.identities.filter(source=DIRECTORY).values_list("name", flat=True), *realm_names(user)]
        found = (self.authenticate(self.request, username=name, password=password) for name in names)
        return any(one is not None and one.pk == user.pk for one in found)

    def _stays(self, user: User) -> bool:
        """Checking a password may have hashed it anew, which would end the session it was typed in."""
        before = user.password
        user.refresh_from_db(fields=["password"])
        if user.password != before:
            update_session_auth_hash(self.request, user)
        return True


def asked_again(view: View) -> View:
    """For pages that give a person a new way in: allauth lets those pass whom it cannot ask, that is all who have
    neither a password here nor a second factor."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated or get_reauthentication_flows(person(request)) or signed_in_just_now(request):
            return view(request, *args, **kwargs)
        if password_is_checked_elsewhere(person(request)):
            raise ReauthenticationRequired
        messages.warning(request, _("Sign out and in again first: what changes how you sign in is done within five minutes of it."))
        return redirect("mfa_index")

    return guarded
