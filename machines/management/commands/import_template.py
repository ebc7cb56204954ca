"""Templates from files."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from machines.models import Cluster
from machines.providers.errors import ProviderError
from machines.services import catalog


class Command(BaseCommand):
    help = "Take a qcow2 image or a Vagrant box as a template of a cluster. Describe it afterwards in the administration."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("cluster", help="the cluster's name")
        parser.add_argument("file", type=Path)
        parser.add_argument("--name", help="the template's name (that of the file); letters, digits, dots and dashes")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            cluster = Cluster.objects.get(name=options["cluster"])
            template = catalog.import_template(cluster, str(path.resolve()), options["name"] or path.stem)
        except Cluster.DoesNotExist:
            names = ", ".join(Cluster.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no cluster {options['cluster']}. Known: {names}.") from None
        except ProviderError as error:
            raise CommandError(f"{error.message} ({error.detail})") from error
        self.stdout.write(f"{template.name}: imported as {template.ref} of {cluster.name}.")
