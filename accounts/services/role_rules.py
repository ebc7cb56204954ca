"""What holds for everybody of one role."""

from collections.abc import Collection

from django.db import transaction

from accounts.models import RolePolicy, User

from . import audit


def save(rules: RolePolicy, *, acting_user: User, changed: Collection[str]) -> None:
    """Write the row. From now on it holds, also for those who are signed in."""
    with transaction.atomic():
        rules.save()
        if changed:
            values = {name: getattr(rules, name) for name in sorted(changed)}
            audit.record("role.rules", acting_user=acting_user, target=rules, **values)
