"""What views ask of a request."""

from django.http import HttpRequest

from .models import User


def person(request: HttpRequest) -> User:
    """Who it is, in a view behind login_required."""
    assert isinstance(request.user, User)
    return request.user


def by_htmx(request: HttpRequest) -> bool:
    """Sent by a script of the page, which wants a part of it and no whole page."""
    return bool(getattr(request, "htmx", False))
