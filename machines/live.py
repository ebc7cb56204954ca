"""Live pages: what a page may listen to, and the one reader of the change feed per process."""

from collections.abc import Iterable

from django.core.signing import BadSignature, Signer

from accounts.models import User


def _signer(user: User) -> Signer:
    return Signer(salt=f"live:{user.pk}", sep="~")


def sign(user: User, topics: Iterable[str]) -> str:
    """The topics as a page carries them: readable, and good only for this person."""
    return _signer(user).sign(" ".join(topics))


def unsign(user: User, token: str) -> list[str]:
    """The topics of a token, or none where it was not made for this person."""
    try:
        return _signer(user).unsign(token).split()
    except BadSignature:
        return []
