"""Whom an account of single sign-on stands for, and what happens instead of allauth's rows and forms."""

import logging
import time
from typing import Any

from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount import app_settings
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from requests import RequestException, Session

from accounts.http import person
from accounts.models import Identity, User
from accounts.services import audit, links
from accounts.services.identities import settle

from . import claims
from .errors import SignInRefused, unreachable, untrustworthy

log = logging.getLogger(__name__)


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    def list_apps(self, request: HttpRequest | None, provider: str | None = None, client_id: str | None = None) -> list[SocialApp]:
        """Those of the settings alone, so that no row of a database opens a way in."""
        return [
            SocialApp(provider=kind, **app)
            for kind, section in app_settings.PROVIDERS.items()
            for app in section["APPS"]
            if provider in (None, kind, app["provider_id"]) and client_id in (None, app["client_id"])
        ]

    def get_requests_session(self) -> Session:
        session: Session = super().get_requests_session()
        session.max_redirects = 0  # what is asked for lies where the provider said
        return session

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The provider's answer is good. Signs in, or connects, or leaves it to the page that asks whether somebody
        whose address is known here wants a second account."""
        if sociallogin.state.get("process") == AuthProcess.CONNECT:
            self._connect(request, sociallogin)
        elif may_have_an_account(sociallogin):
            sociallogin.state["asked_at"] = time.time()
        else:
            if (user := person_of(sociallogin)) is None:
                raise ImmediateHttpResponse(redirect("account_inactive"))
            sociallogin.user = user

    def _connect(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        if is_reauthentication_required(request, app="allauth.socialaccount"):
            messages.error(request, _("It took too long. Connect the account again."))
        else:
            account, system = sociallogin.account, str(sociallogin.provider)
            try:
                links.link(person(request), source(sociallogin), account.uid, name=account.extra_data["name"], system=system)
                person_of(sociallogin)
                messages.success(request, _("You can now sign in with %(system)s.") % {"system": system})
            except links.LinkRefused as refused:
                messages.error(request, refused.message)
        raise ImmediateHttpResponse(redirect("socialaccount_connections"))

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Whom the provider knows is welcome, also where nobody signs up here."""
        return True

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False  # who needs no question was signed in by `pre_social_login`

    def get_signup_form_initial_data(self, sociallogin: SocialLogin) -> dict[str, Any]:
        return {}

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: str | None = None, exception: Exception | None = None, extra_context: dict[str, Any] | None = None
    ) -> None:
        if isinstance(exception, RequestException):
            exception = unreachable(provider, type(exception).__name__)
        elif exception is not None and not isinstance(exception, SignInRefused):
            exception = untrustworthy(provider, type(exception).__name__)
        context = extra_context if extra_context is not None else {}
        if "saml_errors" in context:
            exception = untrustworthy(provider, ", ".join(context["saml_errors"]))
        if exception is not None:
            context["sentence"] = exception.message
            log.warning("Single sign-on by %s failed: %s", provider.sub_id, exception.reason)
            audit.record("user.sign_in_failed", acting_user=AnonymousUser(), outcome="refused", source=f"sso:{provider.sub_id}", reason=exception.reason)
        elif "state" in context:
            context["sentence"] = _("%(system)s did not let you in.") % {"system": provider}


def source(sociallogin: SocialLogin) -> str:
    """What the identity is kept under."""
    return f"sso:{sociallogin.account.provider}"


def may_have_an_account(sociallogin: SocialLogin) -> bool:
    return any(user.is_active for user in _known_by_address(sociallogin))


def _known_by_address(sociallogin: SocialLogin) -> list[User]:
    """Who has shown here that the address of this identity is theirs, if it is new. Asked only where the provider
    vouches for the address: others shall not learn who has an account."""
    if Identity.objects.filter(source=source(sociallogin), uid=sociallogin.account.uid).exists():
        return []
    vouched = [address.email for address in sociallogin.email_addresses if address.verified]
    return [user for email in vouched for user in User.objects.filter(emailaddress__email__iexact=email, emailaddress__verified=True)]


def person_of(sociallogin: SocialLogin) -> User | None:
    """The person, made at the first time, with name, address, groups and role as the provider says now; None where
    the portal's people have switched the account off, also one that this identity was never connected with."""
    known = _known_by_address(sociallogin)
    if known and not any(user.is_active for user in known):
        return None
    account, told = sociallogin.account, sociallogin.user
    address = next(iter(sociallogin.email_addresses), None)
    return settle(
        source(sociallogin),
        account.uid,
        name=account.extra_data["name"],
        email=address.email if address else "",
        email_verified=bool(address and address.verified),
        first_name=told.first_name,
        last_name=told.last_name,
        groups=account.extra_data["groups"],
        role=claims.role(account.extra_data["groups"], sociallogin.provider.app.settings["roles"]),
    )
