"""What the API of every app shares: how it says no, and how long lists come in parts."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from django.db.models import Model, QuerySet
from django.forms import Form
from ninja import Field, Schema
from pydantic import StringConstraints

Row = TypeVar("Row", bound=Model)

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Word = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")]  # PostgreSQL takes no NUL
Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]


class Error(Schema):
    """`code` is short and stable; `message` is for people."""

    code: str
    message: str


ERRORS = {frozenset({400, 401, 403, 404, 409, 422, 429}): Error}


class ApiError(Exception):
    """Answered as an `Error` with this status."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Part(Schema):
    """Which part of a long list: what the part before said is `next`, and how many at most."""

    after: Id | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


def part(rows: QuerySet[Row], wanted: Part, *, newest_first: bool = False) -> tuple[Sequence[Row], int | None]:
    """The wanted rows in the order they were made, in one query however far one has come, and what is `after` for the next part."""
    if wanted.after is not None:
        rows = rows.filter(pk__lt=wanted.after) if newest_first else rows.filter(pk__gt=wanted.after)
    found = list(rows.order_by("-pk" if newest_first else "pk")[: wanted.limit + 1])
    return found[: wanted.limit], found[wanted.limit - 1].pk if len(found) > wanted.limit else None


def checked(form: Form) -> dict[str, Any]:
    """What a form makes of its data; the rules of the page are those of the API. Raises ApiError."""
    if not form.is_valid():
        name, problems = next(iter(form.errors.items()))
        raise ApiError(422, "invalid", str(problems[0]) if name == "__all__" else f"{name}: {problems[0]}")
    return form.cleaned_data
