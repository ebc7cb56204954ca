"""What every page knows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import mail
from accounts.selectors import removals_asked
from machines.selectors import simulated
from machines.services import realms

from .assets import vendor_is_built


def portal(request: HttpRequest) -> dict[str, Any]:
    return {
        "portal_name": settings.PORTAL_NAME,
        "demo": settings.DEMO,
        "mail_is_sent": mail.is_sent(),
        "may_sign_up": settings.SIGN_UP == "open",
        "simulated": SimpleLazyObject(simulated),
        "directory_sign_in": settings.DIRECTORY is not None,
        "directory_password_url": settings.DIRECTORY.password_url if settings.DIRECTORY else "",
        "realm_sign_in": SimpleLazyObject(lambda: bool(realms.offered())),
        "single_sign_on": bool(settings.SOCIALACCOUNT_PROVIDERS),
        "removals_asked": SimpleLazyObject(removals_asked),  # of everybody: for pages of staff
        "vendor_is_built": vendor_is_built(),
    }
