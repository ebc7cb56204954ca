"""A text column that is encrypted at rest."""

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypted(text: str) -> str:
    """With the first of settings.FIELD_KEYS."""
    return _fernet(tuple(settings.FIELD_KEYS)).encrypt(text.encode()).decode()


def decrypted(ciphertext: str) -> str:
    """With any of them. Raises cryptography.fernet.InvalidToken where none opens it."""
    return _fernet(tuple(settings.FIELD_KEYS)).decrypt(ciphertext.encode()).decode()


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # not generic at run time
    """Encrypted with the first of settings.FIELD_KEYS; read with any of them.

    Cannot be searched: equal texts have different ciphertexts. Re-saving a row rotates it to
    the newest key. A row that no key opens raises cryptography.fernet.InvalidToken.
    """

    def get_prep_value(self, value: Any) -> Any:
        if not value:
            return value
        return encrypted(str(value))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        if not value:
            return value
        return decrypted(value)

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name not in {"isnull"}:
            raise TypeError(f"an encrypted field cannot be searched by {lookup_name}")
        return super().get_lookup(lookup_name)
