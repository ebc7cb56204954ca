"""An installation for a bench: fresh database, one cluster, a worker and a watcher."""

import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from machines.models import Template

ROOT = Path(__file__).resolve().parent.parent
COMES_UP_WITHIN = 60
ALL_RUN_WITHIN = 300


def until(true: Callable[[], object], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            sys.exit(f"Not within {seconds:g} s: {what}.")
        time.sleep(0.02)


def start(stack: ExitStack, log: Path, argv: list[str], env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """A process that ends with the bench."""
    with log.open("w") as out:
        process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | (env or {}), stdout=out, stderr=out, start_new_session=True)

    def end() -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()

    stack.callback(end)
    return process


def database(folder: Path, workers: int) -> None:
    """Set Django up with a fresh database in `folder`."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="labportal.settings",
        DATA_DIR=str(folder),
        DATABASE_URL=f"sqlite:///{folder}/labportal.sqlite3",
        SECRET_KEY=secrets.token_hex(32),
        FIELD_KEYS=Fernet.generate_key().decode(),
        PORTAL_ID=str(uuid.uuid4()),
        WORKERS=str(workers),
        LOG_LEVEL="WARNING",
    )
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def work(stack: ExitStack, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a worker and a watcher; the answer is the watcher."""
    from machines.models import Cluster, Heartbeat

    start(stack, folder / "worker.log", [sys.executable, "manage.py", "qcluster"])
    watcher = start(stack, folder / "watcher.log", [sys.executable, "manage.py", "watch"])
    until(lambda: Cluster.objects.get().seen_at and Heartbeat.objects.filter(name="worker").exists(), "worker and watcher work", COMES_UP_WITHIN)
    return watcher


def ask_for(count: int, template: "Template", *, memory_mib: int) -> Any:
    """Ask for machines as a class does, to be started at once. Answers their batch."""
    from accounts.models import Role, User
    from machines.models import Batch, Machine
    from machines.models.operation import Priority
    from machines.services import requests

    Machine.objects.all().delete()
    teacher = User.objects.get_or_create(username="teacher", defaults={"role": Role.TEACHER})[0]
    batch = Batch.objects.create(title=f"{count} machines", requested_by=teacher)
    for number in range(count):
        requests.create_machine(
            acting_user=teacher, template=template, name=f"web-{number:02d}", cores=1, memory_mib=memory_mib, batch=batch, priority=Priority.BULK, start=True
        )
    return batch


def all_run(count: int) -> None:
    """Wait until the portal's pages say that all machines run."""
    from machines.lifecycle import State
    from machines.models import Cluster, Machine, Operation

    until(lambda: Machine.objects.filter(state=State.RUNNING).count() == count, "the portal says so", ALL_RUN_WITHIN)
    assert Operation.objects.filter(state="succeeded").count() >= count
    assert Cluster.objects.get().reachable
