"""What belongs to every request of a person: their language and time zone, and when they were last seen where."""

from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.contrib.auth.signals import user_logged_in
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.adapter import address_of
from accounts.services import preferences

Answer = Callable[[HttpRequest], HttpResponse]

SEEN_EVERY = 300  # seconds between two writes of when a browser was last seen


class OwnPreferences:
    """Pages speak the language of the person who is signed in, and show times in their zone. Stands after
    LocaleMiddleware, which goes by the browser."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        if not user.is_authenticated:
            return self.get_response(request)
        with preferences.of(user):
            return self.get_response(request)


class LastSeen:
    """Keeps when and from where each browser was last seen: written now and then, not at every request."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        if request.user.is_authenticated and key and cache.add(_name(key), True, SEEN_EVERY):
            seen = {"last_seen_at": timezone.now(), "ip": address_of(request), "user_agent": _user_agent(request)}
            if not UserSession.objects.filter(session_key=key).update(**seen):  # they came in by another way than allauth's
                UserSession.objects.get_or_create(session_key=key, defaults={"user": request.user, **seen})
        return self.get_response(request)


def _name(session_key: str) -> str:
    return f"seen:{session_key}"


def _user_agent(request: HttpRequest) -> str:
    longest = UserSession._meta.get_field("user_agent").max_length
    return str(request.META.get("HTTP_USER_AGENT", ""))[:longest]


def just_seen(sender: type, request: HttpRequest, **_known: object) -> None:
    """Signing in writes the row already."""
    if request.session.session_key:
        cache.set(_name(request.session.session_key), True, SEEN_EVERY)


user_logged_in.connect(just_seen, dispatch_uid="accounts.just_seen")
