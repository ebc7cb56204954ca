"""What settings about people must not say together."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from . import mail


@register(Tags.security, deploy=True)
def confirmations_arrive(**_: Any) -> list[CheckMessage]:
    """Whoever signs up is told to look into their mail."""
    if settings.SIGN_UP == "closed" or settings.ACCOUNT_EMAIL_VERIFICATION != "mandatory" or mail.is_sent():
        return []
    hint = "Set EMAIL_URL, or SIGN_UP=closed where people have accounts of the university."
    return [Warning("People who sign up must confirm their address, and the portal sends no mail.", hint=hint, id="accounts.W001")]
