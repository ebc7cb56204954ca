"""How often somebody may be wrong when they sign in.

A name that is typed may mean several people: the account here, and one of the directory of the same name. The password
is tried on all of them. So a wrong one counts

- for the name, however it is spelt, and for each of these people: from this network, and from anywhere;
- for the network, in which a lecture hall signs in at once.

Guessing ends soon, and nobody keeps a lecture hall out with it. Nor does anybody keep another person out by typing
their name: a browser in which one of these people signed in before is known by a cookie, and counts for itself, whatever
the others say. What it counts also adds up with all browsers that know the same of these people, and no others: whoever
has a namesake signs in to new browsers as often as they like, and guesses no more for it, and fills no counter of a
browser that knows the namesake. https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

from allauth.core.internal import ratelimit
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from .directory.names import at_its_broadest
from .models import User
from .selectors import account_here, tried_by

_APP = "allauth.account"  # whose settings hold the rates: ACCOUNT_RATE_LIMITS
_COOKIE = "known_browser"
_DAYS = 180
_PEOPLE = 8  # that one browser knows, the last of them


class TooOften(Exception):
    """`by_network`: not this account alone was tried too often, but all together from this network."""

    def __init__(self, network: str, *, by_network: bool) -> None:
        super().__init__("tried too often")
        self.network, self.by_network = network, by_network


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
            raise TooOften(ratelimit.get_ip(request), by_network=action == "login_failed_network")
        attempt.counted.append(usage)
    return attempt


def forgive(request: HttpRequest, login: str) -> None:
    """The person of this account has chosen a new password: here they may be wrong again. What was counted from anywhere,
    and for a namesake, stays: whoever guesses at another's could choose a new one of their own each time."""
    user = account_here(login)
    if user is None:
        return
    network, browser = ratelimit.get_ip(request), _browser(request)
    theirs = [name for column in ("name", "names__name") for name in user.identities.values_list(column, flat=True) if name]
    names = dict.fromkeys([user.get_username(), login, *theirs])
    for key in (_person(user), *map(_name, names)):
        ratelimit.clear(request, app=_APP, action="login_failed", key=f"{key} {network}")
    if user.pk in browser.get("people", []):
        ratelimit.clear(request, app=_APP, action="login_failed_known_browser", key=f"{_person(user)} {browser['nonce']}")


def remember_browser(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """This person has signed in here."""
    known = _browser(request)
    people = [user.pk, *(pk for pk in known.get("people", []) if pk != user.pk)][:_PEOPLE]
    value = signing.dumps({"nonce": known.get("nonce") or secrets.token_urlsafe(12), "people": people}, salt=_COOKIE)
    response.set_cookie(_COOKIE, value, max_age=_DAYS * 86400, httponly=True, secure=settings.SESSION_COOKIE_SECURE, samesite="Lax", path="/accounts/")


def _counters(request: HttpRequest, login: str) -> list[tuple[str, str | None]]:
    people, browser = tried_by(login), _browser(request)
    if known := [user for user in people if user.pk in browser.get("people", [])]:
        key = " ".join(sorted(map(_person, known)))
        return [("login_failed_known_browser", f"{key} {browser['nonce']}"), ("login_failed_known_anywhere", key)]
    keys, network = [_name(login), *map(_person, people)], ratelimit.get_ip(request)
    narrow, wide = [("login_failed", f"{key} {network}") for key in keys], [("login_failed_anywhere", key) for key in keys]
    return [*narrow, *wide, ("login_failed_network", None)]


def _person(user: User) -> str:
    """All names of one person are one account."""
    return f"user:{user.pk}"


def _name(login: str) -> str:
    return f"name:{at_its_broadest(login)}"


def _browser(request: HttpRequest) -> dict[str, Any]:
    try:
        known: dict[str, Any] = signing.loads(request.COOKIES.get(_COOKIE, ""), salt=_COOKIE, max_age=_DAYS * 86400)
    except signing.BadSignature:
        return {}
    return known
