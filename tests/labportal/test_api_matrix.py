"""Every endpoint of the API against every scope and every role.

The schema is walked: an endpoint that is not in the matrix fails, and so does one that is gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Role, Scope
from accounts.services.roles import set_role
from labportal.api import api
from tests.factories import make_user
from tests.test_url_matrix import PERSONAS, make_world
from tests.tokens import Program, make_token

pytestmark = pytest.mark.django_db

PEOPLE = PERSONAS[1:]
OK, MADE, ACCEPTED, DONE, FORBIDDEN, NOT_FOUND, CONFLICT = 200, 201, 202, 204, 403, 404, 409


@dataclass(frozen=True)
class Row:
    """The scope it needs, and what owner, student, teacher, colleague and staff are answered who have it."""

    scope: Scope
    answers: Any
    path: Callable[[Any], str]
    data: Callable[[Any], Any] = lambda world: None


VISIBLE = (OK, NOT_FOUND, OK, NOT_FOUND, OK)
CAN_DO = (ACCEPTED, NOT_FOUND, ACCEPTED, NOT_FOUND, ACCEPTED)
OWN = (OK, NOT_FOUND, NOT_FOUND, NOT_FOUND, OK)
RUNS_CLASS = (FORBIDDEN, NOT_FOUND, OK, NOT_FOUND, OK)
STAFF = (FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK)


def teaching(status: int) -> tuple[int, ...]:
    """Students have no token for classes at all; of teachers, the one of the class."""
    return (FORBIDDEN, FORBIDDEN, status, NOT_FOUND, status)


def on_machine(verb: str) -> Callable[[Any], str]:
    return lambda world: f"machines/{world.machine.key}/{verb}"


def in_class(rest: str) -> Callable[[Any], str]:
    return lambda world: f"classes/{world.lab_class.key}{rest}"


def wish(world: Any) -> dict[str, Any]:
    return {"template": world.machine.template_id, "tier": world.wish.tier_id, "reason": "A web server."}


MATRIX: dict[str, Row] = {
    "GET me": Row(Scope.READ, OK, lambda world: "me"),
    "GET people": Row(Scope.ADMIN, STAFF, lambda world: "people"),
    "GET people/{number}": Row(Scope.ADMIN, STAFF, lambda world: f"people/{world.people['owner'].pk}"),
    "GET audit": Row(Scope.ADMIN, STAFF, lambda world: "audit"),
    "GET machines": Row(Scope.READ, OK, lambda world: "machines"),
    "GET machines/{key}": Row(Scope.READ, VISIBLE, on_machine("")),
    "POST machines/{key}/{verb}": Row(Scope.POWER, CAN_DO, on_machine("stop")),
    "POST machines/{key}/revert": Row(Scope.POWER, CAN_DO, on_machine("revert")),
    "GET operations/{key}": Row(Scope.READ, VISIBLE, lambda world: f"operations/{world.operation.key}"),
    "GET templates": Row(Scope.READ, OK, lambda world: "templates"),
    "GET requests": Row(Scope.READ, OK, lambda world: "requests"),
    "GET requests/{key}": Row(Scope.READ, OWN, lambda world: f"requests/{world.wish.key}"),
    "POST requests": Row(Scope.POWER, MADE, lambda world: "requests", wish),
    "GET classes": Row(Scope.READ, OK, lambda world: "classes"),
    "POST classes": Row(
        Scope.CLASSES, (FORBIDDEN, FORBIDDEN, MADE, MADE, MADE), lambda world: "classes", lambda world: {"name": "Net", "template": world.machine.template_id}
    ),
    "GET classes/{key}": Row(Scope.READ, VISIBLE, in_class("")),
    "GET classes/{key}/students": Row(Scope.READ, RUNS_CLASS, in_class("/students")),
    "GET classes/{key}/machines": Row(Scope.READ, RUNS_CLASS, in_class("/machines")),
    "POST classes/{key}/machines": Row(Scope.CLASSES, teaching(ACCEPTED), in_class("/machines"), lambda world: {"count": 1}),
    "GET classes/{key}/invites": Row(Scope.CLASSES, teaching(OK), in_class("/invites")),
    "POST classes/{key}/invites": Row(Scope.CLASSES, teaching(MADE), in_class("/invites"), lambda world: {"lasts": "day", "max_uses": 3}),
    "DELETE classes/{key}/invites/{number}": Row(Scope.CLASSES, teaching(DONE), lambda world: f"classes/{world.lab_class.key}/invites/{world.invite.pk}"),
    "POST classes/{key}/{verb}": Row(Scope.CLASSES, teaching(ACCEPTED), in_class("/stop")),
    "GET batches/{key}": Row(Scope.READ, (NOT_FOUND, NOT_FOUND, OK, NOT_FOUND, OK), lambda world: f"batches/{world.batch.key}"),
}


@pytest.fixture
def world():
    return make_world()


def endpoints() -> dict[str, dict[str, Any]]:
    paths = api.get_openapi_schema()["paths"]
    return {f"{method.upper()} {path.removeprefix('/api/v1/')}": operation for path, operations in paths.items() for method, operation in operations.items()}


def asked(row: Row, name: str, world: Any, secret: str | None) -> Any:
    """The answer, and the world as it was before."""
    with transaction.atomic():
        response = Program(secret).ask(name.split()[0].lower(), row.path(world).rstrip("/"), row.data(world))
        transaction.set_rollback(True)
    return response


def test_every_endpoint_is_in_the_matrix_with_its_scope():
    assert {name: operation["x-scope"] for name, operation in endpoints().items()} == {name: row.scope.value for name, row in MATRIX.items()}


def test_every_endpoint_declares_its_errors():
    for name, operation in endpoints().items():
        assert {400, 401, 403, 404, 409, 422, 429} < set(operation["responses"]), name


@pytest.mark.parametrize("name", MATRIX)
def test_who_may_do_what(world, name):
    row = MATRIX[name]
    expected = row.answers if isinstance(row.answers, tuple) else (row.answers,) * len(PEOPLE)
    answers = {persona: asked(row, name, world, make_token(world.people[persona])) for persona in PEOPLE}
    assert {persona: answer.status_code for persona, answer in answers.items()} == dict(zip(PEOPLE, expected, strict=True))
    for persona, answer in answers.items():
        if answer.status_code >= 400:
            assert set(answer.json()) == {"code", "message"}
            assert world.machine.name not in answer.content.decode(), f"{persona} is told of the machine"


@pytest.mark.parametrize("name", MATRIX)
def test_nobody_gets_in_without_a_token_or_with_a_session(world, name):
    row = MATRIX[name]
    assert asked(row, name, world, None).status_code == 401
    program = Program(None)
    program.client.force_login(world.people["staff"])
    assert program.ask(name.split()[0].lower(), row.path(world).rstrip("/"), row.data(world)).status_code == 401


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.scope != Scope.READ])
def test_a_token_without_the_scope_does_not_do_it(world, name):
    row = MATRIX[name]
    others = [scope for scope in Scope if scope != row.scope]
    answer = asked(row, name, world, make_token(world.people["staff"], *others))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope")
    assert row.scope.value in answer.json()["message"]


@pytest.mark.parametrize("name", MATRIX)
def test_a_token_with_the_scope_alone_does_it(world, name):
    row = MATRIX[name]
    expected = row.answers[-1] if isinstance(row.answers, tuple) else row.answers
    assert asked(row, name, world, make_token(world.people["staff"], row.scope)).status_code == expected


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.scope in (Scope.CLASSES, Scope.ADMIN)])
def test_the_token_of_somebody_who_is_demoted_can_do_no_more_than_they(world, name):
    row, staff = MATRIX[name], world.people["staff"]
    secret = make_token(staff)
    make_user(role=Role.STAFF)  # somebody has to stay
    set_role(staff, Role.STUDENT, acting_user=None)
    answer = asked(row, name, world, secret)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope")
    assert staff.api_tokens.get().scopes == [scope.value for scope in Scope]  # it is the person who may no more
