"""The SSH public keys of a person, which are put into their machines."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import SshKey, User

from . import audit
from .refusal import Refusal

MOST = 20
LONGEST = 16 * 1024  # characters of what is pasted, bytes of a file
SHORTEST_RSA = 2048

_PLAIN = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_ON_DEVICES = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
_SECRET = re.compile(r"PRIVATE KEY|PuTTY-User-Key-File", re.IGNORECASE)


class KeyRefused(Refusal):
    """A key is not taken. `message` never holds what was given."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    text: str  # type and key, as in authorized_keys, without options and comment
    comment: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.text.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def read(given: str) -> PublicKey:
    """The one public key in what a person pasted or uploaded. Raises KeyRefused."""
    if _SECRET.search(given):
        raise KeyRefused(
            _("This is a private key, which nobody but you may have. Nothing of it was kept. Give the public key: the file of the same name that ends in .pub.")
        )
    if len(given) > LONGEST:
        raise KeyRefused(_("This is too long to be a public key."))
    lines = [line for line in given.strip().splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise KeyRefused(_("Give one public key, in one line."))
    kind, _blank, rest = lines[0].strip().partition(" ")
    encoded, _blank, comment = rest.strip().partition(" ")
    if kind not in _PLAIN + _ON_DEVICES:
        raise KeyRefused(
            _("This is no public key that machines take. It begins with ssh-ed25519, ecdsa-sha2-…, ssh-rsa or sk-…, and has no options before that.")
        )
    damaged = KeyRefused(_("This public key is damaged or not whole. Copy all of its line."))
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise damaged from None
    if not (_is_whole_device_key if kind in _ON_DEVICES else _is_whole_key)(kind, blob):
        raise damaged
    # Encoded anew, so that one key has one spelling.
    return PublicKey(f"{kind} {base64.b64encode(blob).decode()}", "".join(letter for letter in comment if letter.isprintable()).strip())


def _is_whole_key(kind: str, blob: bytes) -> bool:
    """Raises KeyRefused for RSA that is too short to be trusted."""
    try:
        key = load_ssh_public_key(f"{kind} {base64.b64encode(blob).decode()}".encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, RSAPublicKey) and key.key_size < SHORTEST_RSA:
        raise KeyRefused(
            _("This RSA key has %(bits)d bits. At least %(least)d are needed; better make an Ed25519 key.") % {"bits": key.key_size, "least": SHORTEST_RSA}
        )
    return True


def _is_whole_device_key(kind: str, blob: bytes) -> bool:
    """Keys on devices end in the name of what they were made for, which no library here reads: the
    key before it is looked at as one without a device."""
    parts = _parts(blob)
    if not parts or parts[0] != kind.encode():
        return False
    match kind, parts[1:]:
        case "sk-ssh-ed25519@openssh.com", [public, application] if application:
            return _is_whole_key("ssh-ed25519", _joined(b"ssh-ed25519", public))
        case "sk-ecdsa-sha2-nistp256@openssh.com", [curve, point, application] if application:
            return _is_whole_key("ecdsa-sha2-nistp256", _joined(b"ecdsa-sha2-nistp256", curve, point))
    return False


def _parts(blob: bytes) -> list[bytes]:
    """The strings of an SSH blob, each after its length; none where the lengths lie."""
    parts = []
    while blob:
        length, blob = int.from_bytes(blob[:4], "big"), blob[4:]
        if length > len(blob):
            return []
        parts.append(blob[:length])
        blob = blob[length:]
    return parts


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def add(user: User, *, given: str, name: str = "") -> SshKey:
    """Keep a public key of `user`. Without a `name` it is called by its comment. Raises KeyRefused."""
    key = read(given)
    with transaction.atomic():
        User.objects.held().get(pk=user.pk)  # two pages at once do not pass the limit
        if user.ssh_keys.filter(fingerprint=key.fingerprint).exists():
            raise KeyRefused(_("You have this key already."))
        if user.ssh_keys.count() >= MOST:
            raise KeyRefused(_("You have %(most)d keys, which is the most. Remove one first.") % {"most": MOST})
        kept = SshKey.objects.create(user=user, name=(name or key.comment or key.text.split()[0])[:60], text=key.text, fingerprint=key.fingerprint)
        audit.record("ssh_key.add", acting_user=user, target=kept, fingerprint=kept.fingerprint)
    return kept


def remove(key: SshKey, *, acting_user: User) -> None:
    """What machines were told already stays in them."""
    with transaction.atomic():
        audit.record("ssh_key.remove", acting_user=acting_user, target=key, fingerprint=key.fingerprint)
        key.delete()


def lines(user: User) -> list[str]:
    """As for authorized_keys, always in the same order. One query."""
    return list(user.ssh_keys.order_by("pk").values_list("text", flat=True))
