"""How Django signs people of a cluster's realm in; the last to be asked of AUTHENTICATION_BACKENDS."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.models import User
from machines.services import realms
from machines.services.refusal import Refused


class RealmBackend(ModelBackend):
    def authenticate(self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any) -> User | None:
        """Raises ValidationError, which the sign-in form shows, where the account wants more than a password."""
        if not username or not password:
            return None
        if getattr(request, "directory_is_silent", False) and realms.judges(username):
            request.password_was_judged = True  # type: ignore[union-attr]  # see accounts.services.directory
        try:
            return realms.sign_in(username, password)
        except Refused as refusal:
            raise ValidationError(refusal.message, code=refusal.code) from None
