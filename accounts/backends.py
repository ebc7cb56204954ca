"""How the portal's own accounts sign in."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from django.http import HttpRequest

from .models import User


class LocalBackend(AuthenticationBackend):  # type: ignore[misc]  # allauth has no types
    """By user name or e-mail address, with exactly one password hashed whatever was typed: the time of an answer does not
    tell whether there is such an account. Django's backend and allauth's, one after the other, hash two for an
    address that nobody has and three for one that somebody has."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        login = credentials.get("username") or credentials.get("email") or ""
        user: User | None = self._check_password(self.named(login), credentials["password"])
        return user

    @staticmethod
    def named(login: str) -> User | None:
        """Who is meant by what was typed."""
        if user := get_user_by_username(login):
            return user  # type: ignore[no-any-return]
        return next(iter(filter_users_by_email(login, prefer_verified=True, for_login=True)), None)
