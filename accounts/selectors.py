"""What is read of people and of the record."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from allauth.account.models import EmailAddress
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from .directory.names import in_one_case
from .models import DIRECTORY, AuditEntry, Identity, IdentityName, Role, User

_AT_ONCE = 500  # names or addresses in one query
_MOST_STAFF = 50


def people(search: str = "") -> QuerySet[User]:
    """Everybody whose names or address hold each of the words."""
    found = User.objects.all()
    for word in search.split()[:5]:
        found = found.filter(Q(username__icontains=word) | Q(first_name__icontains=word) | Q(last_name__icontains=word) | Q(email__icontains=word))
    return found


def person(pk: int) -> User | None:
    return User.objects.filter(pk=pk).first()


def staff_who_read_mail() -> QuerySet[User]:
    """Staff who want mail of what waits for them, fifty at most."""
    staff = User.objects.filter(Q(role=Role.STAFF) | Q(is_superuser=True), is_active=True, mail_staff=True)
    return staff.exclude(email="").order_by("pk")[:_MOST_STAFF]


def account_here(login: str) -> User | None:
    """Whose user name or e-mail address was typed."""
    if user := get_user_by_username(login):
        return user  # type: ignore[no-any-return]
    return next(iter(filter_users_by_email(login, prefer_verified=True, for_login=True)), None)


def meant_by(login: str) -> User | None:
    """Who is meant by what was typed: somebody of that name or address here, or of that name in a system outside. Of
    another name there only who has it alone."""
    if user := account_here(login):
        return user
    identity = Identity.objects.filter(name__iexact=login.strip()).select_related("user").order_by("pk").first()
    if identity is not None:
        return identity.user
    others = Identity.objects.filter(names__name=in_one_case(login.strip())).select_related("user")[:2]
    return others[0].user if len(others) == 1 else None


def tried_by(login: str) -> list[User]:
    """Everybody known here on whom a password is tried that is typed with this: the account of that name or address here,
    and those that the directory has of that name, or of that name beside their own. It may have somebody who was never here."""
    here = account_here(login)
    name = in_one_case(login.strip())
    spellings = Q(name__iexact=login.strip()) | Q(name__iexact=name)  # databases lower other letters than Python
    named = IdentityName.objects.filter(name=name).values("identity")
    theirs = Identity.objects.filter(spellings | Q(pk__in=named), source=DIRECTORY).select_related("user").order_by("pk")
    return list(dict.fromkeys([*([here] if here else []), *(identity.user for identity in theirs)]))


def taken_addresses(addresses: Collection[str], *, but: User | None = None) -> set[str]:
    """Those of `addresses`, in small letters, that somebody has. `but` is not somebody."""
    people, known = User.objects.all(), EmailAddress.objects.all()
    if but is not None and but.pk is not None:
        people, known = people.exclude(pk=but.pk), known.exclude(user=but)
    return {row.email.lower() for rows in (people, known) for row in in_portions(rows, "email", addresses)}


def in_portions(rows: Any, column: str, values: Collection[str]) -> Iterable[Any]:
    """The rows whose column has one of `values`, in whatever case."""
    wanted = sorted({value.lower() for value in values} | set(values))  # as written too: databases lower other letters than Python
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        yield from rows.annotate(lowered=Lower(column)).filter(Q(lowered__in=some) | Q(**{f"{column}__in": some}))


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
