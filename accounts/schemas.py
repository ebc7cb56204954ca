"""How the API says people and the record."""

from datetime import datetime
from typing import Any

from ninja import Schema

from .models import AuditEntry, Role, Scope, User


class Me(Schema):
    username: str
    name: str
    email: str
    role: Role
    token: str
    scopes: list[Scope]
    expires_at: datetime | None


class Person(Schema):
    id: int
    username: str
    name: str
    email: str
    role: Role
    active: bool
    joined_at: datetime
    last_sign_in_at: datetime | None

    @classmethod
    def of(cls, user: User) -> "Person":
        return cls(
            id=user.pk,
            username=user.get_username(),
            name=user.get_full_name(),
            email=user.email,
            role=Role(user.role),
            active=user.is_active,
            joined_at=user.date_joined,
            last_sign_in_at=user.last_login,
        )


class People(Schema):
    items: list[Person]
    next: int | None


class Entry(Schema):
    id: int
    at: datetime
    person: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    outcome: str
    address: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> "Entry":
        return cls(
            id=entry.pk,
            at=entry.at,
            person=entry.actor_name,
            action=entry.action,
            object_type=entry.object_type,
            object_id=entry.object_id,
            object_name=entry.object_name,
            outcome=entry.outcome,
            address=entry.address,
            data=entry.data,
        )


class Entries(Schema):
    items: list[Entry]
    next: int | None
