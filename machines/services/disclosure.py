"""Showing a machine's password to a person, which is always recorded."""

from dataclasses import dataclass, field

from django.db import transaction

from accounts.models import User
from accounts.services import audit
from machines.models import Machine


@dataclass(frozen=True, slots=True)
class SignIn:
    username: str
    password: str = field(repr=False)


def reveal(machine: Machine, *, acting_user: User) -> SignIn:
    """What signs in on the machine. That it was shown is recorded."""
    with transaction.atomic():
        audit.record("machine.credentials", acting_user=acting_user, target=machine)
    return SignIn(machine.username, machine.password)
