"""What Django and allauth do with an account by themselves, put on the record. They tell of it by signals
(connected in accounts.apps)."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.http import HttpRequest

from accounts.models import User
from accounts.selectors import meant_by

from . import audit, directory

_TURNED_AWAY_EVERY = 300  # seconds between two entries of the same


def signed_in(user: User, *, backend: str, methods: list[dict[str, Any]]) -> None:
    """`methods` as allauth lists them: password, mfa, socialaccount, each with what belongs to it."""
    how = [":".join(str(method[part]) for part in ("method", "type", "provider") if method.get(part)) for method in methods]
    audit.record("user.signed_in", acting_user=user, target=user, how=how, backend=backend.rpartition(".")[2])


def on_signed_out(user: User | None = None, **signal: Any) -> None:
    if user is not None:
        audit.record("user.signed_out", acting_user=user, target=user)


def on_sign_in_failed(credentials: dict[str, Any], request: Any = None, **signal: Any) -> None:
    """Whoever types the password into the field of the name shall not find it in the record: what was typed is
    looked up and not kept. Where it leads to an account, that is named."""
    typed = _typed(credentials)
    user = meant_by(typed)
    _record_refused(user, request, reason=_why_failed(user, unjudged=directory.left_unjudged(request, typed)))


def turned_away(credentials: dict[str, Any], request: HttpRequest, *, network: str, by_network: bool) -> None:
    """Tried too often, so that nobody looked at the password. A flood does not fill the record: it leaves one entry in
    five minutes, of each person; of a network where nobody is meant, or where everybody in it is turned away."""
    user = meant_by(_typed(credentials))
    whom = f"network:{network}" if user is None or by_network else f"person:{user.pk}"
    if cache.add(f"turned_away:{whom}", True, _TURNED_AWAY_EVERY):
        _record_refused(user, request, reason="too_often")


def _typed(credentials: dict[str, Any]) -> str:
    return str(credentials.get("username") or credentials.get("email") or "")[:254].replace("\0", "")


def _record_refused(user: User | None, request: Any, *, reason: str) -> None:
    data: dict[str, Any] = {"again": True} if getattr(getattr(request, "user", None), "is_authenticated", False) else {}
    audit.record("user.sign_in_failed", acting_user=AnonymousUser(), target=user, outcome="refused", reason=reason, **data)


def _why_failed(user: User | None, *, unjudged: bool) -> str:
    if user is not None and not user.is_active:
        return "deactivated"
    if unjudged:
        return "directory_silent"
    return "unknown_name" if user is None else "wrong_password"


def on_password_changed(user: User, **signal: Any) -> None:
    audit.record("user.password_changed", acting_user=user, target=user)


def on_password_set(user: User, **signal: Any) -> None:
    audit.record("user.password_set", acting_user=user, target=user)


def on_password_reset(user: User, **signal: Any) -> None:
    audit.record("user.password_reset", acting_user=user, target=user)


def on_address_added(user: User, email_address: EmailAddress, **signal: Any) -> None:
    audit.record("user.address_added", acting_user=user, target=user, email=email_address.email)


def on_address_removed(user: User, email_address: EmailAddress, **signal: Any) -> None:
    audit.record("user.address_removed", acting_user=user, target=user, email=email_address.email)


def on_address_confirmed(email_address: EmailAddress, **signal: Any) -> None:
    audit.record("user.address_confirmed", acting_user=email_address.user, target=email_address.user, email=email_address.email)


def on_address_changed(user: User, from_email_address: EmailAddress | None, to_email_address: EmailAddress, **signal: Any) -> None:
    before = from_email_address.email if from_email_address else ""
    audit.record("user.address_changed", acting_user=user, target=user, before=before, after=to_email_address.email)
