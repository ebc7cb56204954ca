"""Hashing passwords."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from accounts.hashers import PBKDF2InTurn
from labportal import settings as of_the_product


def test_passwords_are_hashed_as_django_does_and_old_ones_stay_good():
    hashed = PBKDF2PasswordHasher().encode("correct horse", "salt", 10)
    assert PBKDF2InTurn().encode("correct horse", "salt", 10) == hashed
    assert PBKDF2InTurn().verify("correct horse", hashed) and not PBKDF2InTurn().verify("wrong", hashed)
    assert of_the_product.PASSWORD_HASHERS == ["accounts.hashers.PBKDF2InTurn"] != settings.PASSWORD_HASHERS


def test_no_more_at_once_than_there_are_cores(monkeypatch):
    lock, running, most = Lock(), 0, 0
    encode = PBKDF2PasswordHasher.encode

    def watched(*arguments):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return encode(*arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", watched)
    with ThreadPoolExecutor(40) as crowd:
        hashed = list(crowd.map(lambda number: PBKDF2InTurn().encode("correct horse", str(number), 20000), range(40)))
    assert len(set(hashed)) == 40
    assert most <= (os.cpu_count() or 1)
