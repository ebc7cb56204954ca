"""How addresses, accounts and fingerprints of a Proxmox VE cluster are written. Pure; each raises InvalidSpec."""

import re

from .errors import InvalidSpec

PORT = 8006
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:(?P<port>\d{1,5}))?")
_PERSON = r"[^\s:/!@=\x00-\x1f]{1,60}@[A-Za-z][A-Za-z0-9.\-_]{1,31}"
_ACCOUNT = re.compile(rf"(?P<user>{_PERSON})(!(?P<token>[A-Za-z][A-Za-z0-9.\-_]{{0,126}}))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def endpoint(text: object) -> str:
    """'host:port' of what was entered."""
    bare = str(text).strip().removeprefix("https://").rstrip("/")
    found = _HOST.fullmatch(bare)
    if not found or not 0 < int(found["port"] or PORT) < 65536:
        raise InvalidSpec(bare[:200], message="An endpoint is a host and a port, such as pve1.example.org:8006.")
    return bare if found["port"] else f"{bare}:{PORT}"


def account(text: str) -> tuple[str, str]:
    """User and name of the token, which is empty for a user by himself."""
    found = _ACCOUNT.fullmatch(text.strip())
    if not found:
        raise InvalidSpec(text[:200], message="An account is user@realm, and a token user@realm!name.")
    return found["user"], found["token"] or ""


def is_person(text: str) -> bool:
    """Whether it is user@realm."""
    return bool(re.fullmatch(_PERSON, text))


def fingerprint(text: object) -> str:
    """A SHA-256 as Proxmox VE shows it, 'AA:BB:…'."""
    digits = re.sub(r"[:\s]", "", str(text)).lower().removeprefix("sha256")
    if not _SHA256.fullmatch(digits):
        raise InvalidSpec(message="A fingerprint is the SHA-256 of a certificate: 32 pairs of hexadecimal digits.")
    return ":".join(digits[place : place + 2] for place in range(0, 64, 2)).upper()
