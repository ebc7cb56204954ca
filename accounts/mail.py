"""Whether mail of the portal reaches anybody."""

from django.conf import settings

_UNSENT = {f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "dummy", "filebased")}


def is_sent() -> bool:
    """False where EMAIL_URL has mail written down for the people who run the portal. Pages promise none then."""
    return settings.EMAIL_BACKEND not in _UNSENT
