"""Why somebody cannot be signed in, in words for them."""

from typing import Any

from allauth.socialaccount.providers.base import ProviderException
from django.utils.translation import gettext as _


class SignInRefused(ProviderException):  # type: ignore[misc]  # allauth has no types
    """`message` is a sentence for the person; `reason` is for the log and the record and holds nothing of the answer."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(reason)
        self.message, self.reason = message, reason


def unreachable(provider: Any, reason: str) -> SignInRefused:
    return SignInRefused(_("%(system)s does not answer. Try again in a few minutes.") % {"system": provider}, reason)


def untrustworthy(provider: Any, reason: str) -> SignInRefused:
    sentence = _("%(system)s gave an answer that the portal cannot trust. Try again; if it happens again, tell the people who run the portal.")
    return SignInRefused(sentence % {"system": provider}, reason)
