"""Staff look at the portal as somebody else sees it, and change nothing."""

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from accounts.models import User

from . import audit
from .refusal import PersonRefused

LONGEST = timedelta(minutes=30)


def refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not look as `user`, or nothing."""
    if not acting_user.runs_portal:
        return _("Only staff can do this.")
    if user.pk == acting_user.pk:
        return _("This is your own account.")
    if user.is_superuser:
        return _("%(user)s is a superuser. Nobody looks at the portal as a superuser.") % {"user": user}
    if user.runs_portal and not acting_user.is_superuser:
        return _("%(user)s is staff. Only a superuser can do this.") % {"user": user}
    if not user.is_active:
        return _("This account is closed: it sees nothing.")
    return ""


def begin(user: User, *, acting_user: User) -> None:
    """Record that it begins; the session keeps who is looked at (`accounts.middleware.ViewingAs`). Raises PersonRefused."""
    if why := refusal(user, acting_user=acting_user):
        raise PersonRefused(why)
    audit.record("user.view_as", acting_user=acting_user, target=user)


def end(user_id: int, *, acting_user: User, began: datetime, why: str) -> None:
    """Record that it ended: `why` is stopped, signed_out, over (the time) or refused (it is not allowed any more)."""
    user = User.objects.filter(pk=user_id).first()
    audit.record("user.view_as_ended", acting_user=acting_user, target=user, why=why, began=began.isoformat(timespec="seconds"))
