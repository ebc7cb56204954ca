"""A PostgreSQL for a test run: its own cluster in a folder, on a Unix socket, gone afterwards."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PostgresMissing(Exception):
    """No PostgreSQL server is installed."""


def programs() -> Path:
    """The folder of the newest server's programs; Debian keeps them off PATH."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise PostgresMissing
    return max(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))])


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """Start one and give its DATABASE_URL. As it refuses to run as root it is run as the user postgres
    then. Raises PostgresMissing."""
    where = programs()
    home = Path(tempfile.mkdtemp(prefix="lt-postgres-"))
    user = None
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres").pw_uid
        os.chown(home, user, -1)
    initdb = [where / "initdb", "-D", home / "data", "-U", "labportal", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
    subprocess.run(initdb, user=user, cwd=home, check=True, stdout=subprocess.DEVNULL)
    settings = {"listen_addresses": "", "unix_socket_directories": home, "fsync": "off", "synchronous_commit": "off", "max_connections": "200"}
    command = [where / "postgres", "-D", home / "data", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        ready = [where / "pg_isready", "-q", "-h", home]
        deadline = time.monotonic() + 30
        while subprocess.run(ready).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(home / 'log').read_text()}")
            time.sleep(0.1)
        yield f"postgres://labportal@/{home}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to leave
        server.wait(30)
        shutil.rmtree(home)
