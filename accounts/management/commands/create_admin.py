import sys
from getpass import getpass
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from accounts.selectors import taken_addresses
from accounts.services import first_admin, letters


class Command(BaseCommand):
    help = "Make an administrator: the first person of a new portal. The password is asked for, or chosen in the browser by a link that works once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("email")
        parser.add_argument("--link", action="store_true", help="print a link to choose the password by, instead of asking for it")

    def handle(self, *args: Any, username: str, email: str, link: bool, **options: Any) -> None:
        user = User(username=username, email=email)
        try:
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        if "@" in username or User.objects.filter(username__iexact=username).exists():
            raise CommandError(f"“{username}” cannot be the name: it has an @, or somebody has it.")
        if taken_addresses([email]):
            raise CommandError(f"Somebody has the address {email}.")
        password = None if link else self._ask_password(user)
        made = first_admin.create(username, email, password)
        self.stdout.write(f"{made.username} administers the portal. Sign in at {settings.SITE_URL}")
        if link:
            hours = settings.PASSWORD_RESET_TIMEOUT // 3600
            self.stdout.write(f"Choose the password here, within {hours} hours; the link works once:\n{letters.password_link(made)}")

    def _ask_password(self, user: User) -> str:
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for the password. Take --link.")
        while True:
            password = getpass("Password: ")
            try:
                validate_password(password, user)
            except ValidationError as error:
                self.stdout.write(" ".join(error.messages))
                continue
            if password == getpass("Once more: "):
                return password
            self.stdout.write("These were two different passwords.")
