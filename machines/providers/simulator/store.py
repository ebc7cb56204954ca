"""The machines of a simulator in a file, so that a restart finds them again."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from .machine import VirtualMachine


class Store:
    """One row per machine, written when it changes. A crash of the process loses nothing that was
    saved; of the computer, at most the last moments."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)  # it holds passwords of guests
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("CREATE TABLE IF NOT EXISTS machine (ref TEXT PRIMARY KEY, data TEXT NOT NULL)")

    def load(self) -> list[VirtualMachine]:
        with closing(self._database.execute("SELECT data FROM machine ORDER BY rowid")) as rows:
            return [VirtualMachine.from_json(json.loads(data)) for (data,) in rows]

    def save(self, machines: Iterable[VirtualMachine], gone: Iterable[str]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO machine VALUES (?, ?) ON CONFLICT (ref) DO UPDATE SET data = excluded.data",
            [(machine.ref, json.dumps(machine.to_json())) for machine in machines],
        )
        self._database.executemany("DELETE FROM machine WHERE ref = ?", [(ref,) for ref in gone])
        self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()
