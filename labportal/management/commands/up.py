import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from labportal.demo import demo_file
from labportal.processes.hypervisors import hypervisor
from labportal.processes.installation import Installation
from labportal.processes.preparation import collect_static, prepare_database
from labportal.processes.progress import Progress, StepFailed
from labportal.processes.walk import walk


class Command(BaseCommand):
    help = "Start the hypervisor, web, worker and watcher, and keep them running until Ctrl-C. bin/up calls this after the set-up."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--hypervisor", choices=["libvirt", "simulator"], required=True)
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--no-demo", action="store_true")
        parser.add_argument("--check", action="store_true", help="walk the main job once, then stop")
        parser.add_argument("--passing", action="store_true", help="remove the data folder at the end")
        parser.add_argument("--began", type=float, default=None, help="when the set-up began, in seconds since the epoch")

    def handle(self, *args: Any, **options: Any) -> None:
        progress, data = Progress(), Path(settings.DATA_DIR)
        began = options["began"] or time.time()
        lock_data(data)
        installation = Installation(data, options["host"], options["port"], hypervisor(options["hypervisor"], data), progress)
        stop_on_signals(installation)
        well = True
        try:
            self._start(installation, progress, demo=not options["no_demo"])
            progress.say(f"\nReady in {time.time() - began:.1f} s.")
            if options["check"]:
                well = walk(installation.url, progress)
            else:
                self._welcome(data, progress)
                installation.supervisor.watch()
        except StepFailed as failure:
            well = False
            progress.say(f"\nlabportal cannot start: {failure}")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            well = False
            progress.say(f"\nThe disk that holds {data} is full.")
        except KeyboardInterrupt:
            well = not options["check"]
            progress.say()
        finally:
            installation.stop()
        if options["passing"] and well:
            shutil.rmtree(data, ignore_errors=True)
        elif options["passing"]:
            progress.say(f"The logs are kept in {data / 'log'}.")
        sys.exit(0 if well else 1)

    def _start(self, installation: Installation, progress: Progress, *, demo: bool) -> None:
        with progress.step("Database") as step:
            prepare_database(step)
        with progress.step("Static files") as step:
            collect_static(step)
        installation.start_hypervisor()
        if demo:
            with progress.step("Demo class and accounts"):
                call_command("demo", verbosity=0)
        installation.start_portal()

    def _welcome(self, data: Path, progress: Progress) -> None:
        progress.say(f"\n    {settings.SITE_URL}\n")
        if settings.DEMO and demo_file().exists():
            demo = json.loads(demo_file().read_text())
            for account in demo["accounts"]:
                progress.say(f"    {account['role']:<8} {account['username']:<12} {account['password']}")
            if demo["invite"]:
                progress.say(f"\n    Invite link of the demo class: {settings.SITE_URL}{demo['invite']}")
            progress.say()
        progress.say(f"Logs: {data / 'log'}. Ctrl-C stops everything, machines included.")


def lock_data(data: Path) -> None:
    """Hold the data folder for as long as this process lives; bin/up hands its own lock down."""
    if inherited := os.environ.pop("LABPORTAL_UP_LOCK", ""):
        os.set_inheritable(int(inherited), False)
        return
    (data / "log").mkdir(parents=True, exist_ok=True)
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"labportal cannot start: it runs already with the data in {data}.")


def stop_on_signals(installation: Installation) -> None:
    """The first signal ends what is going on, the second hurries the stop."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if installation.stopping:
            installation.hurry()
        else:
            installation.stopping = True
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
