"""Secrets that open the API. What one may do is what its person may do at that moment, less what its scopes leave out.

A secret is `lp_`, 256 random bits and a checksum: scanners of source code know it by its shape, and a
mistyped one is told without asking the database. Only its SHA-256 is kept, and is what it is found
by. An index is not searched in constant time, which tells nobody anything: to bring about a near
miss one would have to find a secret whose hash begins as that of another.
"""

import hashlib
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import ApiToken, AuditEntry, Scope, User
from accounts.policies import needs_second_factor

from . import audit, letters

MOST = 20  # living ones of a person
LONGEST_NAME = 60
_LIFETIMES = (7, 30, 90, 365)
_WRITTEN_EVERY = timedelta(minutes=1)
_SHAPE = re.compile(r"lp_[A-Za-z0-9_-]{43}[0-9a-f]{8}", re.ASCII)


class TokenRefused(Exception):
    """A token is not made. `message` is for the person, `field` what of the form it is about, `code` short and stable."""

    def __init__(self, message: str, *, code: str, field: str = "") -> None:
        super().__init__(message)
        self.message, self.code, self.field = message, code, field


class Unauthorised(Exception):
    """A secret opens nothing. `message` and `code` are for who presented it."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code


@dataclass(frozen=True, slots=True)
class Grant:
    """A token that was accepted, and what it may do now."""

    token: ApiToken
    scopes: frozenset[Scope]

    @property
    def user(self) -> User:
        return self.token.user


def offered_scopes(user: User) -> list[Scope]:
    """What a token of this person may do: never more than they may."""
    return [
        Scope.READ,
        Scope.POWER,
        *([Scope.CLASSES] if user.teaches else []),
        *([Scope.ADMIN] if user.runs_portal else []),
    ]


def lifetimes() -> list[int | None]:
    """For how many days a token may be made; None: for ever."""
    longest = settings.API_TOKEN_MAX_DAYS
    if not longest:
        return [*_LIFETIMES, None]
    return [days for days in _LIFETIMES if days <= longest] or [longest]


def living(user: User) -> list[ApiToken]:
    """Those of the person that were not revoked, the newest first. Expired ones say so."""
    return list(user.api_tokens.filter(revoked_at=None))


def make(user: User, *, name: str, scopes: Iterable[Scope | str], expires_at: datetime | None) -> tuple[ApiToken, str]:
    """A new token and its secret, which nobody can be shown again. Its person gets a mail about it. Raises TokenRefused.

    Names are given once among living tokens: a form that is sent twice makes one token.
    """
    name = name.strip()
    wanted = {Scope(scope) for scope in scopes} | {Scope.READ}
    now = timezone.now()
    if not 0 < len(name) <= LONGEST_NAME:
        raise TokenRefused(_("Give the token a name, at most %(most)d characters.") % {"most": LONGEST_NAME}, code="name", field="name")
    if not wanted <= set(offered_scopes(user)):
        raise TokenRefused(_("A token cannot do more than you may."), code="scope", field="scopes")
    longest = settings.API_TOKEN_MAX_DAYS
    if expires_at is not None and expires_at <= now:
        raise TokenRefused(_("The token would have expired already."), code="expiry", field="days")
    if longest and (expires_at is None or expires_at > now + timedelta(days=longest, minutes=1)):
        raise TokenRefused(_("A token is for at most %(days)d days here.") % {"days": longest}, code="expiry", field="days")
    secret = _new_secret()
    with transaction.atomic():
        User.objects.held().get(pk=user.pk)  # one at a time, so that the limit and names hold
        present = [token for token in living(user) if not token.has_expired]
        if any(token.name == name for token in present):
            raise TokenRefused(_("You have a token of this name. Revoke it first, or choose another name."), code="name_taken", field="name")
        if len(present) >= MOST:
            raise TokenRefused(_("You have %(count)d tokens, which is as many as one person may have. Revoke one first.") % {"count": MOST}, code="too_many")
        token = ApiToken.objects.create(
            user=user, name=name, digest=_digest(secret), scopes=[scope.value for scope in Scope if scope in wanted], expires_at=expires_at
        )
        letters.notify(user, "token_made", {"token": token, "may": [Scope(scope).label for scope in token.scopes]})
        expires = expires_at.isoformat(timespec="seconds") if expires_at else ""
        audit.record("token.make", acting_user=user, target=token, scopes=token.scopes, expires=expires)
    return token, secret


def revoke(token: ApiToken, *, acting_user: User | None) -> None:
    """It opens nothing from now on. Revoked already: nothing changes."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record("token.revoke", acting_user=acting_user, target=token, person=token.user.get_username())
    token.refresh_from_db(fields=["revoked_at"])


def revoke_all(user: User, *, acting_user: User | None) -> int:
    """All tokens of the person. Returns how many there were."""
    with transaction.atomic():
        tokens = living(user)
        for token in tokens:
            revoke(token, acting_user=acting_user)
    return len(tokens)


def authenticate(secret: str, *, address: str | None) -> Grant:
    """Whom this secret stands for and what it may do, as both are at this moment. Raises Unauthorised.

    Its use is written down at most once a minute, and recorded at the first from each address.
    """
    token = _find(secret)
    if token is None:
        raise Unauthorised(_("There is no such token."), code="token_unknown")
    if token.revoked_at is not None:
        raise Unauthorised(_("This token was revoked."), code="token_revoked")
    if token.has_expired:
        raise Unauthorised(_("This token has expired."), code="token_expired")
    if not token.user.is_active:
        raise Unauthorised(_("The account of this token is closed."), code="account_closed")
    if needs_second_factor(token.user):
        raise Unauthorised(_("The account of this token needs a second factor first. Sign in to the portal to set one up."), code="second_factor")
    scopes = ({Scope(scope) for scope in token.scopes} & set(offered_scopes(token.user))) | {Scope.READ}
    _note_use(token, address)
    return Grant(token, frozenset(scopes))


def record_refusal(secret: str, *, code: str) -> None:
    """That a secret opened nothing. The beginning of its hash tells tries apart, and leads to a token that there is or was."""
    token = _find(secret)
    audit.record("token.refused", acting_user=None, target=token, outcome=code, hash=_digest(secret)[:12])


# -- what they are made of -----------------------------------------------------------------------


def _new_secret() -> str:
    body = f"lp_{secrets.token_urlsafe(32)}"
    return f"{body}{zlib.crc32(body.encode()):08x}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="backslashreplace")).hexdigest()


def _find(secret: str) -> ApiToken | None:
    if not _SHAPE.fullmatch(secret) or f"{zlib.crc32(secret[:-8].encode()):08x}" != secret[-8:]:
        return None
    return ApiToken.objects.select_related("user").filter(digest=_digest(secret)).first()


def _note_use(token: ApiToken, address: str | None) -> None:
    now = timezone.now()
    first_from_there = token.last_used_at is None or (token.last_used_from != address and not _was_used_from(token, address))
    if not first_from_there and token.last_used_at is not None and token.last_used_at > now - _WRITTEN_EVERY:
        return
    with transaction.atomic():
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now, last_used_from=address)
        if first_from_there:
            audit.record("token.use", acting_user=token.user, target=token)


def _was_used_from(token: ApiToken, address: str | None) -> bool:
    uses = AuditEntry.objects.filter(object_type="apitoken", object_id=str(token.key), action="token.use")
    return uses.filter(address=address).exists()
