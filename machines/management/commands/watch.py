"""The watcher process."""

import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from machines.services import clusters_file, watch
from machines.services.refusal import Refused

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Watch the clusters: inventory, power, addresses, finished work, and what a crash left behind. Ends on SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.CLUSTERS_FILE:
            try:
                clusters_file.load(settings.CLUSTERS_FILE)
            except Refused as refusal:
                log.error("CLUSTERS_FILE: %s", refusal.message)  # those that are there are watched all the same
        stop = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: stop.set())
        watch.run(stop)
