import gc
import logging
import os
import sys
from argparse import ArgumentParser
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from labportal.server import Server


class Command(BaseCommand):
    help = "Serves pages and consoles on one port until it is told to end (SIGTERM, Ctrl-C)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for a free one (default: %(default)s)")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        def say(url: str) -> None:
            self.stdout.write(f"Listening on {url}")
            self.stdout.flush()

        behind_proxy = settings.SECURE_PROXY_SSL_HEADER is not None
        server = Server(get_default_application(), host=host, port=port, behind_proxy=behind_proxy, listening=say)
        gc.collect()
        gc.freeze()  # what is loaded stays: looking through it again and again is most of what the collector costs
        server.run()
        if server.failure:
            raise CommandError(f"Cannot listen on {host} port {port}: {server.failure}")
        # A view that is still at work keeps its thread, and Python would wait for it for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
