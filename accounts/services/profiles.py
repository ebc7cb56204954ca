"""What people change about themselves."""

from typing import Any

from django.db import transaction

from accounts.models import DIRECTORY, User

from . import audit


def names_come_from(user: User) -> str:
    """The system outside that says what `user` is called: "directory", "sso:…", or "" for nobody but themselves."""
    if not user.get_full_name():
        return ""  # it said nothing
    sources = sorted(user.identities.values_list("source", flat=True), key=lambda source: source != DIRECTORY)
    return sources[0] if sources else ""


def change_profile(user: User, **changes: Any) -> None:
    """Write what differs from what is kept. The columns of `changes` are those of ProfileForm."""
    with transaction.atomic():
        user.hold()
        changed = sorted(name for name, value in changes.items() if getattr(user, name) != value)
        if not changed:
            return
        for name in changed:
            setattr(user, name, changes[name])
        user.save(update_fields=changed)
        audit.record("user.profile", acting_user=user, target=user, changed=changed)
