"""What is read of people and of the record."""

from datetime import datetime

from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from django.db.models import Q, QuerySet

from .models import AuditEntry, Identity, User


def people(search: str = "") -> QuerySet[User]:
    """Everybody whose names or address hold each of the words."""
    found = User.objects.all()
    for word in search.split()[:5]:
        found = found.filter(Q(username__icontains=word) | Q(first_name__icontains=word) | Q(last_name__icontains=word) | Q(email__icontains=word))
    return found


def person(pk: int) -> User | None:
    return User.objects.filter(pk=pk).first()


def account_here(login: str) -> User | None:
    """Whose user name or e-mail address was typed."""
    if user := get_user_by_username(login):
        return user  # type: ignore[no-any-return]
    return next(iter(filter_users_by_email(login, prefer_verified=True, for_login=True)), None)


def meant_by(login: str) -> User | None:
    """Who is meant by what was typed: somebody of that name or address here, or of that name in a system outside."""
    if user := account_here(login):
        return user
    identity = Identity.objects.filter(name__iexact=login.strip()).select_related("user").order_by("pk").first()
    return identity.user if identity else None


def removals_asked() -> int:
    """How many people wait for staff to remove their account."""
    return User.objects.filter(removal_asked_at__isnull=False).count()


def recorded(
    *, action: str = "", person: str = "", object_id: str = "", outcome: str = "", since: datetime | None = None, until: datetime | None = None
) -> QuerySet[AuditEntry]:
    """Entries of the record. An `action` that ends in a dot means all that begin so; `since` belongs to the time, `until` does not."""
    found = AuditEntry.objects.all()
    if action:
        found = found.filter(action__startswith=action) if action.endswith(".") else found.filter(action=action)
    if person:
        found = found.filter(actor_name=person)
    if object_id:
        found = found.filter(object_id=object_id)
    if outcome:
        found = found.filter(outcome=outcome)
    if since is not None:
        found = found.filter(at__gte=since)
    if until is not None:
        found = found.filter(at__lt=until)
    return found
