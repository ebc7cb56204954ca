from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services.directory_sync import Outcome, sync


class Command(BaseCommand):
    help = "Look up everybody of the university directory now, as every night: roles and groups follow, and whoever is gone for the second time is deactivated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument("--yes", action="store_true", help="deactivate and lower however many the directory says")

    def handle(self, *args: Any, dry_run: bool, yes: bool, **options: Any) -> None:
        if settings.DIRECTORY is None:
            raise CommandError("No directory is configured: LDAP_URIS is not set. docs/sign-in.md has examples.")
        report = sync(dry_run=dry_run, however_many=yes)
        for found, count in sorted(report.found.items()):
            self.stdout.write(f"{found}: {count}")
        would = dry_run or report.outcome is not Outcome.OK
        for username in report.closed:
            self.stdout.write(f"{'would be deactivated' if would else 'deactivated'}: {username}")
        for username in report.lowered:
            self.stdout.write(f"{'would lose' if would else 'lost'} a role or the last group: {username}")
        if report.outcome is Outcome.UNREACHABLE:
            raise CommandError(f"The directory does not answer as it should; nobody is deactivated: {report.problem}. manage.py ldap_check shows why.")
        if report.outcome is Outcome.REFUSED:
            raise CommandError(f"The directory is not believed; nobody is deactivated or loses anything: {report.problem}. If it is right, add --yes.")
