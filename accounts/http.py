"""What views ask of a request."""

import time
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from .models import User

_CLICK = "click_before_signing_in"
_CLICK_COUNTS = 3600  # seconds: long enough for a mail to be confirmed, too short for the next person at this browser


def person(request: HttpRequest) -> User:
    """Who it is, in a view behind login_required."""
    assert isinstance(request.user, User)
    return request.user


def by_htmx(request: HttpRequest) -> bool:
    """Sent by a script of the page, which wants a part of it and no whole page."""
    return bool(getattr(request, "htmx", False))


def address_for_others(request: HttpRequest, path: str) -> str:
    """A page of ours as other people open it: at the address this request used, or at SITE_URL
    where the one used is the computer's own. Where SITE_URL is that too, see `leads_nowhere`."""
    here = request.build_absolute_uri(path)
    return f"{settings.SITE_URL}{path}" if leads_nowhere(here) and not leads_nowhere(settings.SITE_URL) else here


def leads_nowhere(url: str) -> bool:
    """Whether it is a loopback address, which leads everybody to their own computer."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def sign_in_first(request: HttpRequest, *, new: bool = False) -> HttpResponse:
    """For a POST of somebody who is not signed in: lead them to sign in, or to sign up if they are
    `new`, and back to this page, which knows by `clicked_before` that it need not ask again."""
    request.session[_CLICK] = {"path": request.path, "until": time.time() + _CLICK_COUNTS}
    return redirect(f"{reverse('account_signup' if new else 'account_login')}?{urlencode({'next': request.path})}")


def page_clicked_before(request: HttpRequest) -> str | None:
    """The page of the click that `sign_in_first` remembers."""
    click = request.session.get(_CLICK)
    return click["path"] if click and time.time() < click["until"] else None


def forget_click(request: HttpRequest) -> None:
    """Whatever was pressed before counts no more."""
    request.session.pop(_CLICK, None)


def clicked_before(request: HttpRequest) -> bool:
    """Whether this is the page whose button the person, signed in by now, pressed before. True once
    for a click. Nobody else can make it true: the click was a POST with its CSRF token."""
    if not request.user.is_authenticated or page_clicked_before(request) != request.path:
        return False
    del request.session[_CLICK]
    return True
