"""What allauth's views of single sign-on have in common here: how people are led away, and what they read when it fails."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.core.internal import ratelimit
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.utils import get_request_param
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render

from accounts.reauthentication import asked_again

from .errors import SignInRefused, untrustworthy

log = logging.getLogger(__name__)

View = Callable[..., HttpResponse]


def begins(view: View) -> View:
    """A view that leads to the provider. Not by a redirect: a browser that keeps to `form-action` follows none that
    answers a form, neither to the provider nor to whatever else the provider leads on to. A page that goes on by itself
    is a step of its own."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest, **named: str) -> HttpResponse:
        provider, led = _provider(request, **named), view
        if request.method == "POST" and get_request_param(request, "process") == AuthProcess.CONNECT:
            if not request.user.is_authenticated:
                return redirect("account_login")
            raise_if_reauthentication_required(request, app="allauth.socialaccount")
            led = asked_again(view)
        try:
            response = led(request, **named)
        except SignInRefused as refused:
            return failed(request, provider, refused)
        if isinstance(response, HttpResponseRedirect) and not response.url.startswith("/"):
            return render(request, "socialaccount/led_on.html", {"provider": provider, "url": response.url})
        return response

    return wrapper


def ends(view: View) -> View:
    """A view that takes the provider's answer."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest, **named: str) -> HttpResponse:
        provider = _provider(request, **named)
        if not ratelimit.consume(request, app="allauth.account", action="single_sign_on", limit_get=True):
            too_many: HttpResponse = ratelimit.respond_429(request)
            return too_many
        try:
            return view(request, **named)
        except SignInRefused as refused:
            return failed(request, provider, refused)
        except PermissionDenied:  # the state is not of this session, or was used
            return failed(request, provider, None)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, SyntaxError) as error:
            log.exception("%s: the answer is not as its protocol has it", provider.sub_id)
            return failed(request, provider, untrustworthy(provider, type(error).__name__))

    return wrapper


def failed(request: HttpRequest, provider: Any, why: SignInRefused | None) -> HttpResponse:
    response: HttpResponse = render_authentication_error(request, provider, exception=why)
    return response


def _provider(request: HttpRequest, **named: str) -> Any:
    """The one that the address names, by whatever word for it."""
    [provider_id] = named.values()
    try:
        return get_adapter(request).get_provider(request, provider_id)
    except SocialApp.DoesNotExist:
        raise Http404 from None
