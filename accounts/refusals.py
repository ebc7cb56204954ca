"""What forms of allauth say where they refuse something, in the portal's words."""

from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_WRONG = _("The user name or e-mail address, or the password, is not correct.")

WORDS: Final[dict[str, Promise | str]] = {
    "account_inactive": _("This account is switched off."),
    "duplicate_email": _("This is an address of your account already."),
    "email_password_mismatch": _WRONG,
    "email_taken": _("Somebody has this address already."),
    "enter_current_password": _("This is not your password until now."),
    "incorrect_password": _("This is not your password."),
    "invalid_login": _WRONG,
    "invalid_password_reset": _("This link does not work any more. Ask for a new one."),
    "max_email_addresses": _("An account has at most %d addresses."),
    "same_as_current": _("This is what you have now. Choose something else."),
    "too_many_login_attempts": _("Too many wrong passwords for this account. Wait five minutes, then try again."),
    "unknown_email": _("There is no account with this address."),
    "username_blacklisted": _("This user name is kept for the portal. Choose another."),
    "username_password_mismatch": _WRONG,
    "username_taken": _("Somebody has this user name already."),
}
