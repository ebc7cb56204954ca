"""What tests of several apps share."""

import sqlite3

import pytest
from django.db import connection

from tests.chromium import chromium as open_chromium
from tests.slapd import planted_slapd
from tests.web import WebProcess, manage

# Before any test module imports them.
pytest.register_assert_rewrite("tests.machines.providers.contract", "tests.machines.providers.lab")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Between tests that commit, Django empties every table: on SQLite with DELETE, on PostgreSQL with TRUNCATE. The
    record refuses both; tests/accounts/test_audit_append_only.py tries the trigger that is taken away here."""
    sqlite = connection.vendor == "sqlite"
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if "accounts_auditentry" not in connection.introspection.table_names(cursor):
            return  # none of the chosen tests wants a database
        # Fails where a migration has lost it.
        cursor.execute("DROP TRIGGER audit_not_removed" if sqlite else "DROP TRIGGER audit_not_emptied ON accounts_auditentry")
        cursor.execute(f"SELECT {'name FROM sqlite_master' if sqlite else 'tgname FROM pg_trigger'}")
        left = {name for (name,) in cursor.fetchall()}
    kept = {"audit_not_changed", "audit_not_replaced" if sqlite else "audit_not_removed"}
    assert kept <= left, "a migration that changes accounts_auditentry must make its triggers again"


@pytest.fixture
def file_database(transactional_db, tmp_path):
    """The database as an installation has it, where connections of several threads wait for each
    other: SQLite in a file. PostgreSQL is that already."""
    if connection.vendor != "sqlite":
        yield
        return
    connection.ensure_connection()
    settings, in_memory = connection.settings_dict, (connection.settings_dict["NAME"], connection.connection)
    with sqlite3.connect(tmp_path / "portal.sqlite3") as copy:
        connection.connection.backup(copy)
    copy.close()
    settings["NAME"], connection.connection = str(tmp_path / "portal.sqlite3"), None
    yield
    connection.close()
    settings["NAME"], connection.connection = in_memory


@pytest.fixture(autouse=True)
def _in_a_file_where_threads_meet(request):
    """In memory, threads that meet at a table do not wait: one of them gets an error."""
    marker = request.node.get_closest_marker("django_db")
    if marker is not None and marker.kwargs.get("transaction"):
        request.getfixturevalue("file_database")


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """The static files under their hashed names, as an installation serves them."""
    folder = tmp_path_factory.mktemp("static")
    manage("collectstatic", "--noinput", env={"STATIC_ROOT": str(folder)})
    return folder


@pytest.fixture
def portal(file_database, collected, tmp_path):
    portal = WebProcess(tmp_path, collected)
    portal.start()
    yield portal
    portal.kill()


@pytest.fixture(scope="module")
def chromium():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def still_slapd():
    """The university's directory, for tests that change nothing of it."""
    with planted_slapd() as server:
        yield server


@pytest.fixture
def slapd():
    """A directory of the test's own: to change, to stop, to start again."""
    with planted_slapd() as server:
        yield server
