"""Writers of an SQLite database stand in line: nobody waits for ever, nobody fails because others are busy."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper as DjangosWrapper

from labportal.sqlite.base import DatabaseWrapper
from tests.machines.providers.lab import until

SETTINGS = {
    "ENGINE": "labportal.sqlite",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5, "init_command": "PRAGMA journal_mode=WAL;"},
    "AUTOCOMMIT": True,
    "ATOMIC_REQUESTS": False,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "TIME_ZONE": None,
    "USER": "",
    "PASSWORD": "",
    "HOST": "",
    "PORT": "",
    "TEST": {},
}


@pytest.fixture
def database(tmp_path, django_db_blocker) -> Iterator[str]:
    path = str(tmp_path / "db.sqlite3")
    with django_db_blocker.unblock():
        connection = connect(path)
        run(connection, "CREATE TABLE counter (value INTEGER)")
        run(connection, "INSERT INTO counter VALUES (0)")
        connection.close()
        yield path


def connect(path: str, wrapper: type[DjangosWrapper] = DatabaseWrapper) -> DjangosWrapper:
    return wrapper({**SETTINGS, "NAME": path}, "default")


def run(connection: DjangosWrapper, sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def begin(connection: DjangosWrapper) -> None:
    connection.ensure_connection()
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)


def end(connection: DjangosWrapper) -> None:
    connection.commit()
    connection.set_autocommit(True)


def add_one(connection: DjangosWrapper) -> None:
    begin(connection)
    ((value,),) = run(connection, "SELECT value FROM counter")
    run(connection, f"UPDATE counter SET value = {value + 1}")
    end(connection)


def add(path: str, times: int) -> None:
    connection = connect(path)
    for _ in range(times):
        add_one(connection)
    connection.close()


def value_of(path: str) -> int:
    connection = connect(path)
    ((value,),) = run(connection, "SELECT value FROM counter")
    connection.close()
    return value


def test_threads_and_processes_that_write_at_once_all_get_their_turn(database):
    threads = [threading.Thread(target=add, args=(database, 25)) for _ in range(4)]
    processes = [multiprocessing.get_context("fork").Process(target=add, args=(database, 25)) for _ in range(2)]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join(60)
    assert value_of(database) == 6 * 25


def test_whoever_waits_goes_before_one_that_begins_again_at_once(database):
    """With SQLite's own waiting the greedy one would go on winning."""
    greedy = connect(database)
    begin(greedy)
    patient = threading.Thread(target=add, args=(database, 1))
    patient.start()
    until(lambda: blocked_on_flock() >= 1, 10, "it stands in line")
    end(greedy)
    begin(greedy)
    assert run(greedy, "SELECT value FROM counter") == [(1,)]
    end(greedy)
    patient.join(10)
    greedy.close()


def blocked_on_flock() -> int:
    """How many threads of this process wait for a lock on a file."""
    return sum("->" in line and f" {os.getpid()} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_single_statements_stand_in_line_too_and_reading_does_not(database):
    writer, other = connect(database), connect(database)
    begin(writer)
    run(writer, "UPDATE counter SET value = 7")
    assert run(other, "SELECT value FROM counter") == [(0,)]
    finished = threading.Event()

    def write() -> None:
        connection = connect(database)
        run(connection, "UPDATE counter SET value = value + 1")
        finished.set()
        connection.close()

    waiting = threading.Thread(target=write)
    waiting.start()
    until(lambda: blocked_on_flock() >= 1, 10, "it stands in line")
    assert not finished.is_set()
    end(writer)
    waiting.join(10)
    assert run(other, "SELECT value FROM counter") == [(8,)]
    writer.close()
    other.close()


@pytest.mark.parametrize("leaving", ["rollback", "close"])
def test_however_a_transaction_ends_the_next_one_has_its_turn(database, leaving):
    connection = connect(database)
    begin(connection)
    getattr(connection, leaving)()
    add(database, 1)
    assert value_of(database) == 1
    connection.close()


def test_a_process_that_dies_in_its_turn_gives_it_up(database):
    def die() -> None:
        begin(connect(database))
        os.kill(os.getpid(), 9)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(10)
    began = time.monotonic()
    add(database, 1)
    assert value_of(database) == 1 and time.monotonic() - began < 2


def test_a_child_does_not_give_up_the_turn_of_its_parent(database):
    parent = connect(database)
    begin(parent)
    run(parent, "UPDATE counter SET value = 5")

    def leave() -> None:
        parent._queue.leave()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=leave)
    process.start()
    process.join(10)
    waiting = threading.Thread(target=add, args=(database, 1))
    waiting.start()
    until(lambda: blocked_on_flock() >= 1, 10, "it stands in line")
    end(parent)
    waiting.join(10)
    assert value_of(database) == 6
    parent.close()


def test_a_database_in_memory_has_no_line(db):
    if connection.vendor != "sqlite":
        pytest.skip("not on SQLite")
    assert connection._queue is None
