"""Second factors from the outside: taken away by staff, encrypted anew, and what happens to them recorded."""

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.second_factor import encrypted_anew, use_up_until_now

from . import audit, letters, people, sessions, tokens
from .identities import password_is_elsewhere
from .refusal import Refusal


class SecondFactorRefused(Refusal):
    """A second factor is not taken away."""


def refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not take away the second factor of `user`, or nothing."""
    if acting_user.pk == user.pk:
        return _("Your own second factor is changed on the pages of your account.")
    if why := people.ways_in_refusal(user, acting_user=acting_user):
        return why
    return "" if Authenticator.objects.filter(user=user).exists() else _("%(user)s has no second factor.") % {"user": user}


def passkey_refusal(user: User) -> str:
    """Why no key signs this person in by itself, or nothing. It would go on doing so when their account in the other
    system is closed, which is not asked then."""
    if password_is_elsewhere(user):
        return _("You sign in with an account of another system. A key is asked for after that, and does not sign you in by itself.")
    return ""


def reset(user: User, *, acting_user: User) -> int:
    """Take away all second factors of somebody who has lost theirs, sign them out everywhere, revoke their API tokens,
    which somebody else may have made, and tell them by mail. If their role must have one, they are led to set a new one
    up when they sign in. Answers how many there were.

    Raises SecondFactorRefused.
    """
    with transaction.atomic():
        user.hold()
        if why := refusal(user, acting_user=acting_user):
            raise SecondFactorRefused(why)
        theirs = Authenticator.objects.filter(user=user)
        kinds = sorted(theirs.values_list("type", flat=True))
        theirs.delete()
        sessions.end_all(user, acting_user=acting_user)
        tokens.revoke_all(user, acting_user=acting_user)
        audit.record("second_factor.reset", acting_user=acting_user, target=user, kinds=kinds)
        letters.notify(user, "second_factor_reset")
    return len(kinds)


def encrypt_all_anew(batch: int) -> int:
    """Write every secret of a second factor with the first of FIELD_KEYS. Interrupted, it can be run again."""
    count, last = 0, 0
    while True:
        with transaction.atomic():
            rows = list(Authenticator.objects.select_for_update(of=("self",)).filter(pk__gt=last).order_by("pk")[:batch])
            for row in rows:
                row.data = encrypted_anew(row.data)
            Authenticator.objects.bulk_update(rows, ["data"])
        if not rows:
            return count
        count, last = count + len(rows), rows[-1].pk


# -- what allauth tells ----------------------------------------------------------------------------


def on_added(user: User, authenticator: Authenticator, **signal: Any) -> None:
    if authenticator.type == Authenticator.Type.TOTP:
        use_up_until_now(authenticator)
    audit.record("second_factor.added", acting_user=user, target=user, **_what(authenticator))


def on_removed(user: User, authenticator: Authenticator, **signal: Any) -> None:
    audit.record("second_factor.removed", acting_user=user, target=user, **_what(authenticator))


def on_new_codes(user: User, authenticator: Authenticator, **signal: Any) -> None:
    audit.record("second_factor.new_codes", acting_user=user, target=user, **_what(authenticator))


def on_used(user: User, authenticator: Authenticator, request: HttpRequest, **signal: Any) -> None:
    """Codes and keys that open the door are part of signing in. A recovery code is used when something was lost, or
    found by somebody else."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        authenticator.refresh_from_db(fields=["data"])
        left = len(authenticator.wrap().get_unused_codes())
        audit.record("second_factor.recovery_code_used", acting_user=user, target=user, left=left)
        get_adapter(request).send_notification_mail("mfa/email/recovery_code_used", user, {"left": left})


def on_failed(user: User, authenticator: Authenticator, **signal: Any) -> None:
    """Whoever typed the wrong code knew the password, which does not make them the person."""
    audit.record("second_factor.wrong_code", acting_user=AnonymousUser(), target=user, outcome="refused", again=bool(signal.get("reauthentication")))


def _what(authenticator: Authenticator) -> dict[str, str]:
    return {"kind": authenticator.type} | ({"name": authenticator.wrap().name} if authenticator.type == Authenticator.Type.WEBAUTHN else {})
