"""The administrator of a new portal, who makes everybody else staff."""

from allauth.account.forms import default_token_generator
from allauth.account.internal.userkit import user_id_to_str
from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.models import User

from . import audit


def create(username: str, email: str, password: str | None) -> User:
    """A superuser. Without a password nobody signs in before one was chosen by `password_link`. The caller has
    looked at all three; raises IntegrityError for a name that somebody has."""
    with transaction.atomic():
        user = User.objects.create_superuser(username, email, password)
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
        audit.record("user.made", acting_user=None, target=user, role=user.role, superuser=True)
    return user


def password_link(user: User) -> str:
    """Where whoever has the link chooses the password, once and for as long as links by mail are good."""
    token = default_token_generator.make_token(user)
    return str(settings.SITE_URL) + reverse("account_reset_password_from_key", args=[user_id_to_str(user), token])
