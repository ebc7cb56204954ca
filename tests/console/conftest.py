"""What the console's tests share."""

import sqlite3

import pytest
from django.db import connection


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
