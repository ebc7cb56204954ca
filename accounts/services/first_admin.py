"""The administrator of a new portal, who makes everybody else staff."""

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import User

from . import audit


def create(username: str, email: str, password: str | None) -> User:
    """A superuser. Without a password nobody signs in before one was chosen by `letters.password_link`. The caller has
    looked at all three; raises IntegrityError for a name that somebody has."""
    with transaction.atomic():
        user = User.objects.create_superuser(username, email, password)
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
        audit.record("user.made", acting_user=None, target=user, role=user.role, superuser=True)
    return user
