"""Nothing changes without an entry: every URL of the matrix is posted to as everybody, and every service that acts for
a person is followed to where it records."""

import ast
import re
from pathlib import Path

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.test_url_matrix import MATRIX, NOT_ALLOWED, PERSONAS, world  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

RECORD = "accounts_auditentry"
# What is written down beside what people do, and what only a server wants to know.
BOOKKEEPING = {
    "django_session": "who is signed in where",
    "usersessions_usersession": "the same, with the device",
    "django_q_ormq": "a bell that is rung",
    "machines_change": "what live pages show anew",
    "console_consoleticket": "a ticket nobody has used; its use is recorded",
    "accounts_letter": "mail that waits to be sent",
    "machines_letter": "the same",
}
NOTHING_OF_ANYBODY = {
    "machines:look_again": "asks the guest for its address, as the portal does by itself",
}
_WRITTEN = re.compile(r'^\s*(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"', re.IGNORECASE)


def written(queries):
    """The tables that were written to. That Django notes the time of a sign-in is no change of a person."""
    statements = [query["sql"] for query in queries if 'SET "last_login"' not in query["sql"]]
    return {found[1] for sql in statements if (found := _WRITTEN.match(sql))}


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.post != NOT_ALLOWED])
def test_every_post_that_changes_a_row_is_on_the_record(world, name):  # noqa: F811
    row = MATRIX[name]
    for persona in PERSONAS:
        cache.clear()
        client = Client()
        with transaction.atomic():  # each finds the world as it was made
            if (user := world.people[persona]) is not None:
                client.force_login(user)
            with CaptureQueriesContext(connection) as captured:
                client.post(reverse(name.split()[0], args=row.args(world)), row.data(world))
            transaction.set_rollback(True)
        tables = written(captured.captured_queries)
        changed = tables - BOOKKEEPING.keys() - {RECORD}
        assert RECORD in tables or not changed or name in NOTHING_OF_ANYBODY, f"{persona} changed {changed} and no entry says so"


def test_the_test_sees_what_is_written(world):  # noqa: F811
    with CaptureQueriesContext(connection) as captured:
        world.lab_class.save()
    assert written(captured.captured_queries) == {"classes_labclass"}


# -- services --------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "machines", "classes", "sessions", "console")
# They take the person to ask what that person may, or only pass them on to a function they are given.
CHANGES_NOTHING = {
    "accounts.services.people.untouchable": "asks",
    "accounts.services.people_import.enrol": "is given what enrols by the app of the classes",
    "machines.services.quotas.check": "asks",
    "machines.services.quotas.check_growth": "asks",
    "console.services.tickets.issue": "the use of the ticket is recorded",
}


def functions():
    """Every function of the services by module and name, with what it is given and what it calls: (module or "", name)."""
    found = {}
    for app in APPS:
        for path in sorted((ROOT / app / "services").glob("**/*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    given = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
                    found[module, node.name] = given, {_called(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    return found


def _called(function):
    if isinstance(function, ast.Attribute):
        return getattr(function.value, "id", "?"), function.attr
    return "", getattr(function, "id", "")


def test_every_service_that_acts_for_somebody_records_it():
    there = functions()
    recording = {("accounts.services.audit", "record")}

    def leads_there(module, call):
        owner, name = call
        if owner:
            return any(name == each and (owner == where.rpartition(".")[2] or owner == "self") for where, each in recording)
        own = (module, name)
        return own in recording if own in there else any(name == each for _where, each in recording)

    while more := {key for key, (_given, calls) in there.items() if any(leads_there(key[0], call) for call in calls)} - recording:
        recording |= more
    acting = {key for key, (given, _calls) in there.items() if "acting_user" in given}
    assert len(acting) > 40
    asking = {key for key in acting if key[1].startswith("_") or key[1].endswith("refusal")}  # parts of others, and why something is refused
    silent = {".".join(key) for key in acting - recording - asking}
    assert silent <= CHANGES_NOTHING.keys()
    assert set(CHANGES_NOTHING) <= silent, "these do record, or are gone"
