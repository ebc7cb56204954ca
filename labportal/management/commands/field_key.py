from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from accounts.fields import EncryptedTextField


class Command(BaseCommand):
    help = "Print a new key for FIELD_KEYS; with --rotate, encrypt every secret in the database anew with the first of FIELD_KEYS."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="after a new key was put in front; afterwards the old ones may go")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["rotate"]:
            self.stdout.write(Fernet.generate_key().decode())
            return
        for model in apps.get_models():
            fields = [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
            if not fields:
                continue
            keys = list(model._default_manager.values_list("pk", flat=True))
            for key in keys:
                with transaction.atomic():
                    row = model._default_manager.select_for_update().filter(pk=key).first()
                    if row is not None:
                        row.save(update_fields=fields)
            self.stdout.write(f"{model._meta.verbose_name_plural}: {len(keys)}")
