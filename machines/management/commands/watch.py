"""The watcher process."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from machines.services import watch


class Command(BaseCommand):
    help = "Watch the clusters: inventory, power, addresses, finished work, and what a crash left behind. Ends on SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: stop.set())
        watch.run(stop)
