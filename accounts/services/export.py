"""All that the portal keeps of a person, for themselves."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry, User

from . import audit

MOST = 5000  # lines of one section, the newest ones

Line = Mapping[str, object]


class Section(NamedTuple):
    """`lines`: newest first where there may be more than MOST. Never a secret, nor what is known of others."""

    name: str
    lines: Callable[[User], Iterable[Line]]


def _identities(user: User) -> Iterable[Line]:
    fields = ("source", "uid", "name", "dn", "groups", "role_given", "seen_at")
    for identity in user.identities.prefetch_related("names"):
        yield {field: getattr(identity, field) for field in fields} | {"names": [str(name) for name in identity.names.all()]}


def _tokens(user: User) -> Iterable[Line]:
    return user.api_tokens.values("key", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at", "last_used_from")


def _mails(user: User) -> Iterable[Line]:
    return user.notices.filter(about=None).values("created_at", "to", "subject", "body", "sent_at")


def _record(user: User) -> Iterable[Line]:
    columns = ("at", "action", "object_type", "object_id", "object_name", "outcome", "address", "data")
    lines: Iterable[Line] = AuditEntry.objects.filter(actor=user).values(*columns)[: MOST + 1].iterator()
    return lines


# Apps above add theirs.
SECTIONS: list[Section] = [
    Section("email_addresses", lambda user: EmailAddress.objects.filter(user=user).values("email", "verified", "primary")),
    Section("identities", _identities),
    Section("second_factors", lambda user: Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at")),
    Section("ssh_keys", lambda user: user.ssh_keys.values("name", "text", "fingerprint", "created_at")),
    Section("api_tokens", _tokens),
    Section("sessions", lambda user: UserSession.objects.filter(user=user).values("created_at", "last_seen_at", "ip", "user_agent")),
    Section("mails", _mails),
    Section("record", _record),
]

_PROFILE = (
    "username", "first_name", "last_name", "email", "email_given", "role", "own_role", "language", "time_zone", "keyboard",
    "mail_decisions", "mail_reminders", "mail_staff", "max_machines", "max_cores", "max_memory_mib", "date_joined", "last_login", "removal_asked_at",
)  # fmt: skip


def export(user: User) -> dict[str, Any]:
    """As a document for JSON. `cut` names the sections that go on beyond MOST lines. Recorded."""
    with transaction.atomic():
        sections = {section.name: list(islice(section.lines(user), MOST + 1)) for section in SECTIONS}
        audit.record("user.export", acting_user=user, target=user)
    return {
        "portal": settings.PORTAL_NAME,
        "made_at": timezone.now(),
        "profile": {name: getattr(user, name) for name in _PROFILE},
        **{name: lines[:MOST] for name, lines in sections.items()},
        "cut": [name for name, lines in sections.items() if len(lines) > MOST],
    }
