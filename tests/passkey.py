"""A key in software: it answers a registration and a sign-in as a browser writes them down, always with its person's
finger shown."""

import hashlib
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

ORIGIN = "http://localhost:8000"
_RP = hashlib.sha256(b"localhost").digest()
_FLAG = AuthenticatorData.FLAG
_PROVEN = _FLAG.UP | _FLAG.UV


class Passkey:
    def __init__(self) -> None:
        self._secret, self._id, self._person = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16), b""

    def made(self, options: dict[str, Any]) -> dict[str, Any]:
        """What creating it answers, which it does whether the portal asked for a passkey or not."""
        asked = options["publicKey"]
        self._person = websafe_decode(asked["user"]["id"])
        held = AttestedCredentialData.create(bytes(16), self._id, ES256.from_cryptography_key(self._secret.public_key()))
        data = AuthenticatorData.create(_RP, _PROVEN | _FLAG.AT, 0, held)
        told = {"clientDataJSON": _client_data("webauthn.create", asked), "attestationObject": AttestationObject.create("none", data, {})}
        return self._answer(told) | {"clientExtensionResults": {"credProps": {"rk": True}}}

    def signed(self, options: dict[str, Any]) -> dict[str, Any]:
        """What signing in with it answers."""
        client_data, data = _client_data("webauthn.get", options["publicKey"]), AuthenticatorData.create(_RP, _PROVEN, 0)
        signature = self._secret.sign(data + client_data.hash, ec.ECDSA(SHA256()))
        return self._answer({"clientDataJSON": client_data, "authenticatorData": data, "signature": signature, "userHandle": self._person})

    def _answer(self, told: dict[str, bytes]) -> dict[str, Any]:
        name = websafe_encode(self._id)
        return {"type": "public-key", "id": name, "rawId": name, "response": {part: websafe_encode(value) for part, value in told.items()}}


def _client_data(type: str, asked: dict[str, Any]) -> CollectedClientData:
    return CollectedClientData.create(type, asked["challenge"], ORIGIN)
