"""The university directory as signing in and signing up ask it. Where it does not answer, everybody else goes on.

Nothing of LDAP is imported before a directory is asked: where none is configured, python-ldap may be absent.
"""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest

from accounts.directory.types import DirectoryError
from accounts.models import DIRECTORY, Identity, User
from accounts.selectors import account_here

from . import identities

if TYPE_CHECKING:
    from accounts.directory.client import Directory

log = logging.getLogger(__name__)

BACKEND = "accounts.directory_backend.DirectoryBackend"  # of AUTHENTICATION_BACKENDS, where a directory is configured

_client: "Directory | None" = None


class AddressUnclear(Exception):
    """An address of the directory's own domains, about which it cannot be asked at the moment."""


def client() -> "Directory | None":
    """The one for the settings, which remembers what servers hang; None where there is no directory."""
    global _client
    if settings.DIRECTORY is None:
        return None
    if _client is None or _client.config is not settings.DIRECTORY:
        from accounts.directory.client import Directory

        _client = Directory(settings.DIRECTORY)
    return _client


def sign_in(login: str, password: str) -> User | None:
    """The person of the directory with this name or address and password, made at the first time. None: there is none,
    or they may not sign in there or here. Raises DirectoryError within the time of its settings."""
    directory = client()
    entry = directory.authenticate(login, password) if directory is not None else None
    if directory is None or entry is None:
        return None
    return identities.settle_entry(entry, directory.config)


def left_unjudged(request: HttpRequest | None, login: str) -> bool:
    """Whether nobody has judged the password that came with this login: the directory alone could, and did not answer.
    Backends of apps above note at the request that they did (`password_was_judged`)."""
    if not getattr(request, "directory_is_silent", False) or getattr(request, "password_was_judged", False):
        return False
    user = account_here(login)
    return user is None or not user.has_usable_password()


def holds_name(name: str) -> bool:
    """Whether the directory has somebody, or something, of this name. Not where it does not answer: a name that is
    taken meanwhile leads to nobody's account, as people of the directory are known by their id."""
    directory = client()
    try:
        return directory is not None and directory.holds(name)
    except DirectoryError as error:
        log.warning("the directory does not say whether it has the name of a sign-up: %s", error.detail)
        return False


def holds_any(names: Collection[str]) -> bool:
    """Whether the directory has one of these names or addresses. Raises DirectoryError within the time of its settings."""
    directory = client()
    return directory is not None and directory.holds(*names)


def holds_address(email: str, *, of: User | None = None) -> bool:
    """Whether it is an address of the directory, other than one of this person's own. Raises AddressUnclear where the
    directory does not answer and the address is of its domains."""
    directory = client()
    if directory is None:
        return False
    try:
        if of is not None and (entry := directory.find(email)) and Identity.objects.filter(user=of, source=DIRECTORY, uid=entry.uid).exists():
            return False
        return directory.holds(email)
    except DirectoryError as error:
        log.warning("the directory does not say whether it has an address: %s", error.detail)
        domain = email.lower().rpartition("@")[2]
        if any(domain == reserved or domain.endswith(f".{reserved}") for reserved in directory.config.reserved_domains):
            raise AddressUnclear from error
        return False
