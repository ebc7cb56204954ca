"""Secrets made for one machine alone."""

import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

# Letters that sit on the same keys of QWERTY, QWERTZ and AZERTY: the password can be typed into
# a console whose keyboard is not set yet.
_CONSONANTS = "bdfghjklnprstv"
_VOWELS = "eiou"
_SYLLABLES = 10  # 56 possibilities each: 58 bits


@dataclass(frozen=True, slots=True)
class Credentials:
    password: str = field(repr=False)
    ssh_private_key: str = field(repr=False)  # OpenSSH format
    ssh_public_key: str


def password() -> str:
    """Random, and can be read aloud: kelu-roni-tise-pofu-heru, written without the dashes."""
    return "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(_SYLLABLES))


def make(comment: str) -> Credentials:
    """A password and an ed25519 key pair. `comment` ends the public key's line."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Credentials(
        password=password(),
        ssh_private_key=key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
        ssh_public_key=f"{public} {comment}",
    )
