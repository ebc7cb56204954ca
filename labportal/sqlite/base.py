"""Django's SQLite backend, with a queue for writers.

SQLite lets one connection write at a time. Whoever finds it taken sleeps up to 0.1 s and looks
again, and whoever looks at the right moment goes first: with a few busy processes some wait for
seconds, until they fail with "database is locked". Here writers of all processes and threads
stand in line at locks on files beside the database. The kernel wakes the next one at the moment
the one before is done, and frees the place of a process that dies.

Only what begins its transaction by itself (`atomic` with IMMEDIATE) and single statements queue;
reading never does.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.sqlite3 import base

_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLAC")


class WritersQueue:
    """The line of those who want to write, and one connection's place in it.

    Two locks: whoever holds `next` waits for `turn` and lets go of `next` when it has it. So one
    that has just had its turn and wants another cannot have it before the one in front.
    """

    def __init__(self, path: str) -> None:
        self._paths = f"{path}-next", f"{path}-turn"
        self._next = self._turn = -1
        self._pid = 0
        self.inside = False

    def enter(self) -> None:
        if self._pid != os.getpid():  # a place inherited over a fork is the parent's
            self.close()
            self._next, self._turn = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in self._paths)
            self._pid = os.getpid()
        fcntl.flock(self._next, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        self.inside = True

    def leave(self) -> None:
        if self.inside and self._pid == os.getpid():
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        self.inside = False

    def close(self) -> None:
        """Closing gives a lock up, but not one that the parent of a fork still has open."""
        self.inside = False
        if self._pid:
            os.close(self._next)
            os.close(self._turn)
        self._pid = 0

    @contextmanager
    def one_write(self) -> Iterator[None]:
        if self.inside:
            yield
            return
        self.enter()
        try:
            yield
        finally:
            self.leave()


class QueueingCursor(base.SQLiteCursorWrapper):
    """Statements outside a transaction queue by themselves."""

    queue: WritersQueue | None = None

    def execute(self, query: str, params: Any = None) -> Any:
        if self.queue is None or self.connection.in_transaction or not _writes(query):
            return super().execute(query, params)
        with self.queue.one_write():
            return super().execute(query, params)

    def executemany(self, query: str, param_list: Any) -> Any:
        if self.queue is None or self.connection.in_transaction or not _writes(query):
            return super().executemany(query, param_list)
        with self.queue.one_write():
            return super().executemany(query, param_list)


def _writes(query: str) -> bool:
    return query.lstrip()[:6].upper() in _WRITES


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, with a place in the writers' queue. A database in memory has none."""

    _queue: WritersQueue | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.is_in_memory_db():
            self._queue = WritersQueue(f"{conn_params['database']}-writers")
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=QueueingCursor)
        cursor.queue = self._queue
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        if self._queue is not None:
            self._queue.enter()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._leave()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._leave()  # one that fails is rolled back next

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            if self._queue is not None:
                self._queue.close()

    def _leave(self) -> None:
        if self._queue is not None:
            self._queue.leave()
