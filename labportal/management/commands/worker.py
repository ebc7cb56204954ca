import os
import signal
import sys
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from labportal.processes.installation import worker
from labportal.processes.supervisor import Supervisor


class Command(BaseCommand):
    help = "Run operations until SIGTERM. A django-q2 cluster that stands still is killed and started again."

    def handle(self, *args: Any, **options: Any) -> None:
        supervisor = Supervisor(lambda line: print(line, file=sys.stderr, flush=True))

        def on_signal(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
        try:
            supervisor.start(worker(os.environ, log=None))
            supervisor.watch()
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, frame: supervisor.hurry())
        finally:
            supervisor.stop()
