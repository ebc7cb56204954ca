"""What views ask of a request."""

import time
from urllib.parse import urlencode

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


def sign_in_first(request: HttpRequest, *, new: bool = False) -> HttpResponse:
    """For a POST of somebody who is not signed in: lead them to sign in, or to sign up if they are
    `new`, and back to this page, which knows by `clicked_before` that it need not ask again."""
    request.session[_CLICK] = {"path": request.path, "until": time.time() + _CLICK_COUNTS}
    return redirect(f"{reverse('account_signup' if new else 'account_login')}?{urlencode({'next': request.path})}")


def page_clicked_before(request: HttpRequest) -> str | None:
    """The page of the click that `sign_in_first` remembers."""
    click = request.session.get(_CLICK)
    return click["path"] if click and time.time() < click["until"] else None


def clicked_before(request: HttpRequest) -> bool:
    """Whether this is the page whose button the person, signed in by now, pressed before. True once
    for a click. Nobody else can make it true: the click was a POST with its CSRF token."""
    if not request.user.is_authenticated or page_clicked_before(request) != request.path:
        return False
    del request.session[_CLICK]
    return True
