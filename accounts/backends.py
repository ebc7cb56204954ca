"""How the portal's own accounts sign in."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.http import HttpRequest

from .models import User
from .selectors import account_here


class LocalBackend(AuthenticationBackend):  # type: ignore[misc]  # allauth has no types
    """By user name or e-mail address, with exactly one password hashed whatever was typed: the time of an answer does not
    tell whether there is such an account. Django's backend and allauth's, one after the other, hash two for an
    address that nobody has and three for one that somebody has."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        login = credentials.get("username") or credentials.get("email") or ""
        user: User | None = self._check_password(account_here(login), credentials["password"])
        return user
