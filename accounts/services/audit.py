"""The only writer of the record."""

from typing import Any

from django.db import models

from accounts.models import AuditEntry, User


def record(
    action: str,
    *,
    acting_user: User | None,
    target: models.Model | None = None,
    target_name: str = "",
    outcome: str = "ok",
    address: str | None = None,
    **data: Any,
) -> AuditEntry:
    """Write one line. Call it inside the transaction of the change. Never pass a secret."""
    return AuditEntry.objects.create(
        action=action,
        actor=acting_user,
        actor_name=acting_user.get_username() if acting_user else "portal",
        object_type=target._meta.model_name or "" if target else "",
        object_id=str(getattr(target, "key", None) or target.pk) if target else "",
        object_name=(target_name or (str(target) if target else ""))[:200],
        outcome=outcome,
        address=address,
        data=data,
    )
