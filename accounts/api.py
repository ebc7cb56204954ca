"""Oneself; for staff, people and the record."""

from datetime import UTC, datetime
from typing import Annotated

from django.http import Http404, HttpRequest
from ninja import Path, Query, Router
from pydantic import AwareDatetime, Field

from . import selectors
from .bearer import ADMIN, READ
from .models import Role, Scope
from .rest import ERRORS, Id, Part, Word, part
from .schemas import Entries, Entry, Me, People, Person

router = Router(tags=["people"])


@router.get("me", **READ, response={200: Me} | ERRORS, summary="Who the token stands for, and what it may do")
def me(request: HttpRequest) -> Me:
    grant = request.auth  # type: ignore[attr-defined]  # set by ninja
    user = grant.user
    return Me(
        username=user.get_username(),
        name=user.get_full_name(),
        email=user.email,
        role=Role(user.role),
        token=grant.token.name,
        scopes=[scope for scope in Scope if scope in grant.scopes],
        expires_at=grant.token.ends_at,
    )


class PeopleWanted(Part):
    search: Word = ""


@router.get("people", **ADMIN, response={200: People} | ERRORS, summary="People, by name or address")
def people(request: HttpRequest, wanted: Query[PeopleWanted]) -> People:
    found, after = part(selectors.people(wanted.search), wanted)
    return People(items=[Person.of(user) for user in found], next=after)


@router.get("people/{int:number}", **ADMIN, response={200: Person} | ERRORS, summary="One person")
def one_person(request: HttpRequest, number: Annotated[Id, Path()]) -> Person:
    user = selectors.person(number)
    if user is None:
        raise Http404
    return Person.of(user)


# Not every zone can tell the first and the last years.
Moment = Annotated[AwareDatetime, Field(ge=datetime(1900, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))]


class EntriesWanted(Part):
    action: Word = ""
    person: Word = ""
    object_id: Word = ""
    outcome: Word = ""
    since: Moment | None = None
    until: Moment | None = None


@router.get(
    "audit", **ADMIN, response={200: Entries} | ERRORS, summary="The record, newest first", description="An action that ends in a dot means all that begin so."
)
def record(request: HttpRequest, wanted: Query[EntriesWanted]) -> Entries:
    filters = wanted.dict(exclude={"after", "limit"})
    found, after = part(selectors.recorded(**filters), wanted, newest_first=True)
    return Entries(items=[Entry.of(entry) for entry in found], next=after)
