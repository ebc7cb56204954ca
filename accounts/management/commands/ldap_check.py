import sys
from getpass import getpass
from textwrap import indent
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services import directory_check


class Command(BaseCommand):
    help = "Show step by step how somebody of the university directory is looked up, what follows from it in the portal, and what is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="a user name or an e-mail address of the directory")
        parser.add_argument("--password", action="store_true", help="ask for the person's password, and try it")

    def handle(self, *args: Any, user: str, password: bool, **options: Any) -> None:
        if settings.DIRECTORY is None:
            raise CommandError("No directory is configured: LDAP_URIS is not set. docs/sign-in.md has examples.")
        fails = 0
        for line in directory_check.check(user, _ask() if password else None):
            mark = self.style.ERROR("wrong") if line.fatal else self.style.WARNING("note ") if line.advice else self.style.SUCCESS("ok   ")
            first, *more = line.found.splitlines() or [""]
            self.stdout.write(f"{mark}  {line.did}: {first}")
            for text in more:
                self.stdout.write(indent(text, " " * 7))
            if line.advice:
                self.stdout.write(indent(line.advice, "       → "))
            fails += line.fatal
        if fails:
            raise CommandError(f"“{user}” cannot sign in with the directory.")
        self.stdout.write(f"“{user}” can sign in" + ("." if password else ", with the right password."))


def _ask() -> str:
    """From the terminal without showing it, else the first line of what is piped in."""
    return getpass("Password in the directory: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
