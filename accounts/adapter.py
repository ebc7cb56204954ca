"""What the portal adds to allauth: coming and going is recorded, wrong passwords are slowed down, names and addresses are
not somebody else's, mails that cannot be sent say so, and people land where they were going.
"""

import logging
from contextlib import suppress
from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter, get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.http import page_clicked_before
from accounts.services import audit, coming_and_going, directory
from accounts.services.identities import password_is_elsewhere

from . import throttling
from .addresses import KeepsAnAddress
from .models import User
from .reauthentication import AsksAgain
from .refusals import WORDS

logger = logging.getLogger(__name__)


def address_of(request: HttpRequest) -> str | None:
    """Where the request came from, with as many proxies trusted as the settings say; None where it is not known."""
    try:
        return get_adapter(request).get_client_ip(request) or None
    except PermissionDenied:
        return None


def _login_of(credentials: dict[str, Any]) -> str:
    return str(credentials.get("username") or credentials.get("email") or "")


class MailNotSent(ImmediateHttpResponse):  # type: ignore[misc]  # allauth has no types
    """A mail somebody waits for could not be handed to the mail server. They read so, whoever they are: mails go to
    addresses that are known here and to those that are not."""


class AccountAdapter(AsksAgain, KeepsAnAddress, DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    error_messages: ClassVar = {
        **DefaultAccountAdapter.error_messages,
        **WORDS,
        "too_many_from_network": _("There were too many wrong passwords from your network. Wait five minutes, then try again."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGN_UP == "open")

    def get_login_stages(self) -> list[str]:
        ours = {"allauth.account.stages.EmailVerificationStage": "accounts.stages.AddressConfirmed"}
        return [ours.get(stage, stage) for stage in super().get_login_stages()]

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Back to where they clicked before; otherwise staff begin at all machines, teachers at
        their classes, students at their own machines."""
        if page := page_clicked_before(request):
            return page
        if getattr(request.user, "runs_portal", False):
            return reverse("machines:machines")
        return reverse("classes:list") if getattr(request.user, "teaches", False) else resolve_url(settings.LOGIN_REDIRECT_URL)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            self.attempt = throttling.begin(request, _login_of(credentials))
        except throttling.TooOften as refused:
            coming_and_going.turned_away(credentials, request, network=refused.network, by_network=refused.by_network)
            raise self.validation_error("too_many_from_network" if refused.by_network else "too_many_login_attempts") from None

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """What nobody could judge, because a directory did not answer, was not wrong. The passwords of the portal's own
        accounts, and of those of clusters, are judged all the same."""
        user: User | None = super().authenticate(request, **credentials)
        if user is not None or directory.left_unjudged(request, _login_of(credentials)):
            self.attempt.take_back()
        return user

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        throttling.forgive(request, _login_of(credentials))

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **kwargs)
        throttling.remember_browser(request, response, user)
        coming_and_going.signed_in(user, backend=request.session.get(BACKEND_SESSION_KEY, ""), methods=get_authentication_records(request, user))
        return response

    def clean_username(self, username: str, shallow: bool = False) -> str:
        """Names with an @ are those of people who sign in with an account of another system. One of the directory gets
        the answer of one that is taken. `shallow`: only its letters are looked at."""
        if "@" in username:
            raise ValidationError(_("A user name has no @. Your e-mail address has a field of its own."))
        clean = str(super().clean_username(username, shallow))
        if not shallow and directory.holds_name(clean):
            raise self.validation_error("username_taken")
        return clean

    def clean_password(self, password: str, user: Any = None) -> str:
        """Whoever signs in with an account of another system gets no second way in, which would outlive the first."""
        if user is not None and user.pk and password_is_elsewhere(user):
            raise ValidationError(_("You sign in with an account of another system. Change your password there."))
        return str(super().clean_password(password, user))

    def send_password_reset_mail(self, user: User, email: str, context: dict[str, Any]) -> None:
        audit.record("user.password_reset_asked", acting_user=AnonymousUser(), target=user)
        if password_is_elsewhere(user):
            self.send_mail("account/email/password_is_elsewhere", email, context)
        else:
            super().send_password_reset_mail(user, email, context)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        saved: User = super().save_user(request, user, form, commit=commit)
        if commit:
            audit.record("user.signed_up", acting_user=saved, target=saved)
        return saved

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:
            logger.exception("The mail %s could not be sent.", template_prefix)
            raise MailNotSent(render(self.request, "account/mail_not_sent.html", status=503)) from error

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """What changed stays changed when no mail of it can be sent."""
        with suppress(MailNotSent):
            super().send_notification_mail(*args, **kwargs)
