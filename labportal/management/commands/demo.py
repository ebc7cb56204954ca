from typing import Any

from django.core.management.base import BaseCommand, CommandError

from labportal.demo import NoTemplate, demo_file, make_demo


class Command(BaseCommand):
    help = "Make demo accounts (teacher, student, staff) and the class “Linux basics” with machines and an invite. What exists stays."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            demo = make_demo()
        except NoTemplate:
            raise CommandError("No cluster offers a template. Add a cluster first.") from None
        if options["verbosity"]:
            for account in demo.accounts:
                self.stdout.write(f"{account.role:<8} {account.username:<12} {account.password}")
            self.stdout.write(f"Invite: {demo.invite}")
            self.stdout.write(f"Kept in {demo_file()}.")
