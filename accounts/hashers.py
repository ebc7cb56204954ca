"""How passwords are hashed: as Django does, a few at a time."""

import os
from threading import BoundedSemaphore

from django.contrib.auth.hashers import PBKDF2PasswordHasher

_AT_ONCE = BoundedSemaphore(os.cpu_count() or 1)


class PBKDF2InTurn(PBKDF2PasswordHasher):
    """One at a time for every core. When a lecture hall signs in at once, the first are in soon and the
    web server goes on answering; all together they would starve it, and all be done only at the end."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with _AT_ONCE:
            return super().encode(password, salt, iterations)
