"""How Django signs people of the university directory in: the first to be asked of AUTHENTICATION_BACKENDS.

django-auth-ldap's backend, but for the two steps at which the stock one gives accounts away: who is meant is found by
`accounts.directory`, which has servers to fall back on and gives up in time, and the account is the one of the
directory's own id, never one that happens to have the name (`accounts.services.identities`).
"""

import logging
from typing import Any

from django.http import HttpRequest
from django_auth_ldap.backend import LDAPBackend

from accounts.directory.types import DirectoryError

from .models import User
from .services import directory

log = logging.getLogger(__name__)


class DirectoryBackend(LDAPBackend):  # type: ignore[misc]  # django-auth-ldap has no types
    def authenticate(self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any) -> User | None:
        """With `account="local"` the person has said that they mean the other of two accounts. A directory that does
        not answer is noted at the request (`directory_is_silent`), and others are asked."""
        if kwargs.pop("account", "") == "local":
            return None
        user: User | None = super().authenticate(request, username=username, password=password, **kwargs)
        return user

    def authenticate_ldap_user(self, ldap_user: Any, password: str) -> User | None:
        try:
            return directory.sign_in(ldap_user._username, password)
        except DirectoryError as error:
            log.warning("nobody of the directory can sign in: %s %s", error.message, error.detail)
            if ldap_user._request is not None:
                ldap_user._request.directory_is_silent = True
            return None

    def get_user(self, user_id: int) -> User | None:
        """The stock one would let those stay who were deactivated."""
        return User.objects.filter(pk=user_id, is_active=True).first()
