"""Second factors of allauth, as the portal keeps them: encrypted, and for its own name."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.utils import decrypt
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .fields import decrypted, encrypted
from .models import User
from .policies import FACTORS, must_have_second_factor

_STEP = "step"  # in the data of a TOTP authenticator: the last time step of which a code was used


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    error_messages: ClassVar = DefaultMFAAdapter.error_messages | {
        "cannot_delete_authenticator": gettext_lazy("People of your role must have a second factor. Add another one first, then remove this one."),
        "cannot_generate_recovery_codes": gettext_lazy("Recovery codes stand in for a second factor. Set one up first."),
        "incorrect_code": gettext_lazy("This is not right, or it was used already."),
    }

    def encrypt(self, text: str) -> str:
        return encrypted(text)

    def decrypt(self, encrypted_text: str) -> str:
        return decrypted(encrypted_text)

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """Whoever must have a second factor keeps one."""
        if authenticator.type not in FACTORS:
            return True
        others = Authenticator.objects.filter(user=authenticator.user_id, type__in=FACTORS).exclude(pk=authenticator.pk)
        return others.exists() or not must_have_second_factor(authenticator.user)

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        return _("Key %(number)s") % {"number": Authenticator.objects.filter(user=user, type=type).count() + 1}

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """A key is for the name the portal has in SITE_URL, whatever a request calls it."""
        return {"id": urlsplit(settings.SITE_URL).hostname or "", "name": settings.PORTAL_NAME}

    def _get_user_identifier(self, user: User) -> str:
        return user.get_username()


def use_up(authenticator: Authenticator, code: str) -> bool:
    """Whether this right code of an authenticator app may be used: each opens the door once, and so
    does none that is older than one that did."""
    secret = decrypt(authenticator.data["secret"])
    with transaction.atomic():
        locked = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        for step in yield_hotp_counters_from_time():
            if step > locked.data.get(_STEP, 0) and compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, step))):
                _keep(locked, step)
                return True
    return False


def use_up_until_now(authenticator: Authenticator) -> None:
    """The code that set the app up opens no door afterwards."""
    _, now, *_later = yield_hotp_counters_from_time()
    _keep(authenticator, now)


def _keep(authenticator: Authenticator, step: int) -> None:
    authenticator.data[_STEP] = step
    authenticator.save(update_fields=["data"])


def encrypted_anew(data: dict[str, Any]) -> dict[str, Any]:
    """What an authenticator holds, its secrets with the newest key. Of keys of WebAuthn there is nothing to hide."""
    return data | {name: encrypted(decrypted(data[name])) for name in ("secret", "seed") if name in data}
