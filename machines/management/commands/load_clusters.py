from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from machines.services import clusters_file
from machines.services.refusal import Refused


class Command(BaseCommand):
    help = "Add the Proxmox VE clusters of a JSON file, or bring those that are there in line with it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            clusters = clusters_file.load(options["file"])
        except Refused as refusal:
            raise CommandError(refusal.message) from refusal
        for cluster in clusters:
            self.stdout.write(f"{cluster.name}: {', '.join(cluster.config['endpoints'])}")
