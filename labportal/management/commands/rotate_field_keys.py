from typing import Any

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import models, transaction

from accounts.fields import EncryptedTextField
from accounts.services import audit, second_factors

BATCH = 100  # rows that are read, locked and written at once


class Command(BaseCommand):
    help = "Encrypt every secret in the database anew with the first of FIELD_KEYS; afterwards the others may go. Interrupted, it can be run again."

    def handle(self, *args: Any, **options: Any) -> None:
        for model in apps.get_models():
            fields = [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
            if fields:
                self._tell(model, model._meta.verbose_name_plural, _rotate(model, fields))
        self._tell(Authenticator, "second factors", second_factors.encrypt_all_anew(BATCH))

    def _tell(self, model: type[models.Model], name: Any, count: int) -> None:
        self.stdout.write(f"{name}: {count}")
        audit.record("keys.rotated", acting_user=None, target_name=model._meta.label, rows=count)


def _rotate(model: type[models.Model], fields: list[str]) -> int:
    """Each batch is a transaction: what was done stays done, and old and new keys may stand side by side."""
    count, last = 0, 0
    while True:
        with transaction.atomic():
            rows = list(model._default_manager.select_for_update(of=("self",)).filter(pk__gt=last).order_by("pk").only("pk", *fields)[:BATCH])
            model._default_manager.bulk_update(rows, fields)
        if not rows:
            return count
        count, last = count + len(rows), rows[-1].pk
