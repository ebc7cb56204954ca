"""What holds for everybody of one role."""

from collections.abc import Collection

from django.db import transaction

from accounts.models import RolePolicy, User

from . import audit


def save(rules: RolePolicy, *, acting_user: User, changed: Collection[str]) -> None:
    """Write the row. From now on it holds, also for those who are signed in."""
    with transaction.atomic():
        names = sorted(changed)
        before = RolePolicy.objects.select_for_update().filter(pk=rules.pk).values(*names).first() if names else None
        rules.save()
        if names:
            audit.record("role.rules", acting_user=acting_user, target=rules, before=before, after={name: getattr(rules, name) for name in names})
