"""What must be true of the data folder before the processes start. Every step may be taken again."""

import hashlib
import os
import sqlite3
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from .progress import Step, StepFailed


def prepare_database(step: Step) -> None:
    """Bring the tables to what this version needs. Raises StepFailed where the database is newer, or cannot be opened."""
    mask = os.umask(0o077)  # the file holds sessions and password hashes
    try:
        _prepare_database(step)
    finally:
        os.umask(mask)


def _prepare_database(step: Step) -> None:
    try:
        loader = MigrationLoader(connection)
    except (DatabaseError, sqlite3.Error) as error:
        raise StepFailed(f"the database cannot be opened: {error}.") from error
    known = set(loader.disk_migrations)
    known.update(*(migration.replaces for migration in loader.disk_migrations.values()))
    apps = {app for app, _ in known}
    if unknown := sorted(f"{app} {name}" for app, name in set(loader.applied_migrations) - known if app in apps):
        raise StepFailed(f"the data in {settings.DATA_DIR} is of a newer version of labportal (it has {unknown[0]}). Use that version or a newer one.")
    if set(loader.disk_migrations) - set(loader.applied_migrations):
        call_command("migrate", interactive=False, verbosity=0)
        step.note = "brought up to date"


def collect_static(step: Step) -> None:
    """Gather style sheets and scripts under hashed names, unless none has changed."""
    digest = hashlib.sha256(str(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            found = Path(storage.path(path)).stat()
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    stamp = Path(settings.STATIC_ROOT) / ".gathered"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(digest.hexdigest())
    step.note = "gathered"
