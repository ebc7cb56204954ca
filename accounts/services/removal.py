"""Asking to be removed. Staff decide: what a person has may still be needed by others."""

from collections.abc import Callable, Iterable
from functools import partial

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts.models import User

from . import audit, letters

# Apps above add what a person has there, in sentences for them and for staff.
HOLDINGS: list[Callable[[User], Iterable[str]]] = []


def holdings(user: User) -> list[str]:
    """What somebody has that goes with them, or waits for a decision first."""
    return [sentence for of_app in HOLDINGS for sentence in of_app(user)]


def ask(user: User) -> bool:
    """Put the wish down and tell staff; False where it was put down before."""
    with transaction.atomic():
        user.hold()
        if user.removal_asked_at is not None:
            return False
        user.removal_asked_at = timezone.now()
        user.save(update_fields=["removal_asked_at"])
        audit.record("user.removal_asked", acting_user=user, target=user)
        context = {"person": user, "holdings": partial(holdings, user), "admin_url": settings.SITE_URL + reverse("admin:accounts_user_change", args=[user.pk])}
        letters.notify_staff("removal_asked", context, about=user)
    return True


def take_back(user: User) -> bool:
    """False where there is no such wish."""
    with transaction.atomic():
        user.hold()
        if user.removal_asked_at is None:
            return False
        user.removal_asked_at = None
        user.save(update_fields=["removal_asked_at"])
        letters.withdraw_from_staff(about=user)
        audit.record("user.removal_taken_back", acting_user=user, target=user)
    return True
