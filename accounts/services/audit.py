"""The only writer of the record, and what it knows of where a request came from.

The edge says once, with `origin` and `add_to_origin`, from where something is asked; what is
recorded meanwhile, in threads of the same request too, holds it without being passed it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models

from accounts.models import ApiToken, AuditEntry, User


@dataclass(frozen=True, slots=True)
class Origin:
    """From where something is asked: the address of the computer, the token of a request to the
    API, the member of staff who looks at the portal as somebody else."""

    address: str | None = None
    token: ApiToken | None = None
    viewed_by: User | None = None


_NOWHERE = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


@contextmanager
def origin(*, address: str | None) -> Iterator[None]:
    """What is asked within came from this address, and of nothing before it."""
    before = _origin.set(Origin(address=address))
    try:
        yield
    finally:
        _origin.reset(before)


def add_to_origin(**known: Any) -> None:
    """What is learnt of the origin later than its address: `token`, `viewed_by`."""
    _origin.set(replace(_origin.get(), **known))


def record(
    action: str,
    *,
    acting_user: User | AnonymousUser | None,
    target: models.Model | None = None,
    target_name: str = "",
    outcome: str = "ok",
    **data: Any,
) -> AuditEntry:
    """Write one line. Call it inside the transaction of the change. Never pass a secret.

    `acting_user` None: the portal itself.
    """
    where = _origin.get()
    if where.token is not None:
        data |= {"token": str(where.token.key), "token_name": where.token.name}
    if where.viewed_by is not None:
        data["viewed_by"] = where.viewed_by.get_username()
    return AuditEntry.objects.create(
        action=action,
        actor=acting_user if isinstance(acting_user, User) else None,
        actor_name="portal" if acting_user is None else acting_user.get_username(),
        object_type=target._meta.model_name or "" if target else "",
        object_id=str(getattr(target, "key", None) or target.pk) if target else "",
        object_name=(target_name or _name(target))[:200],
        outcome=outcome,
        address=where.address,
        data=data,
    )


def _name(target: models.Model | None) -> str:
    if isinstance(target, User):
        return target.unmistakable
    return str(target) if target else ""
