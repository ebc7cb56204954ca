"""How often somebody may be wrong when they sign in.

A wrong password counts for its account from this network, for its account from anywhere, and for the network. So
guessing ends soon, and nobody keeps a lecture hall out with it. Nor does anybody keep another person out by typing
their name: a browser in which that person signed in before is known by a cookie and has a counter of its own, whatever
the others say. https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

from allauth.core.internal import ratelimit
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from .models import User
from .selectors import meant_by

_APP = "allauth.account"  # whose settings hold the rates: ACCOUNT_RATE_LIMITS
_COOKIE = "known_browser"
_DAYS = 180
_PEOPLE = 8  # that one browser knows, the last of them


class TooOften(Exception):
    """`by_network`: not this account alone was tried too often."""

    def __init__(self, *, by_network: bool) -> None:
        super().__init__("tried too often")
        self.by_network = by_network


@dataclass(slots=True)
class Attempt:
    """A try that counts as a wrong one until it is taken back."""

    counted: list[ratelimit.RateLimitUsage] = field(default_factory=list)

    def take_back(self) -> None:
        for usage in self.counted:
            usage.rollback()


def begin(request: HttpRequest, login: str) -> Attempt:
    """Count a try to sign in as `login`. Raises TooOften, and counts nothing then."""
    attempt = Attempt()
    for action, key in _counters(request, login):
        usage = ratelimit.consume(request, app=_APP, action=action, key=key)
        if usage is None:
            attempt.take_back()
            raise TooOften(by_network=action == "login_failed_network")
        attempt.counted.append(usage)
    return attempt


def forgive(request: HttpRequest, login: str) -> None:
    """Forget the wrong passwords of an account: its person has chosen a new one."""
    for action, key in _counters(request, login):
        if action != "login_failed_network":
            ratelimit.clear(request, app=_APP, action=action, key=key)


def remember_browser(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """This person has signed in here."""
    known = _browser(request)
    people = [user.pk, *(pk for pk in known.get("people", []) if pk != user.pk)][:_PEOPLE]
    value = signing.dumps({"nonce": known.get("nonce") or secrets.token_urlsafe(12), "people": people}, salt=_COOKIE)
    response.set_cookie(_COOKIE, value, max_age=_DAYS * 86400, httponly=True, secure=settings.SESSION_COOKIE_SECURE, samesite="Lax", path="/accounts/")


def _counters(request: HttpRequest, login: str) -> list[tuple[str, str | None]]:
    user = meant_by(login)
    account = f"user:{user.pk}" if user else f"name:{login.strip().lower()}"  # all names of one person are one account
    browser = _browser(request)
    if user and user.pk in browser.get("people", []):
        return [("login_failed_known_browser", f"{account} {browser['nonce']}")]
    return [("login_failed", f"{account} {ratelimit.get_ip(request)}"), ("login_failed_anywhere", account), ("login_failed_network", None)]


def _browser(request: HttpRequest) -> dict[str, Any]:
    try:
        known: dict[str, Any] = signing.loads(request.COOKIES.get(_COOKIE, ""), salt=_COOKIE, max_age=_DAYS * 86400)
    except signing.BadSignature:
        return {}
    return known
