"""Whom the portal takes for a node of the cluster: three ways of trusting its certificate.

system       one that an authority of this machine's signed
ca           one that an authority given as PEM signed, or one given there itself; the host's name must fit
fingerprint  one of those whose SHA-256 is listed, whatever it says; nothing else is looked at
"""

import hashlib
import hmac
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import SSLError

from machines.providers import notation
from machines.providers.errors import InvalidSpec, Unreachable

SYSTEM, CA, FINGERPRINT = "system", "ca", "fingerprint"
CONNECT_SECONDS = 5.0


def of_der(der: bytes) -> str:
    return notation.fingerprint(hashlib.sha256(der).hexdigest())


@dataclass(frozen=True)
class Trust:
    """Of one cluster. `fingerprints` and `ca` count in their own mode only."""

    mode: str = SYSTEM
    ca: str = ""
    fingerprints: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Trust":
        """Raises InvalidSpec where the settings do not say whom to trust."""
        mode = config.get("tls") or SYSTEM
        if mode == SYSTEM:
            return cls()
        if mode == CA:
            if not config.get("ca"):
                raise InvalidSpec(message="The certificate of the cluster's authority (PEM) is missing.")
            return cls(CA, ca=str(config["ca"]))
        if mode == FINGERPRINT:
            allowed = tuple(notation.fingerprint(fingerprint) for fingerprint in config.get("fingerprints") or ())
            if not allowed:
                raise InvalidSpec(message="The fingerprint of the cluster's certificate is missing.")
            return cls(FINGERPRINT, fingerprints=allowed)
        raise InvalidSpec(f"tls: {mode!r}", message="The cluster's certificate is checked by system, ca or fingerprint.")

    def context(self) -> ssl.SSLContext:
        """In the mode `fingerprint` it lets every certificate pass: `matches` decides after the handshake. Raises InvalidSpec."""
        if self.mode == FINGERPRINT:
            return _blind()
        if self.mode == SYSTEM:
            return ssl.create_default_context()
        try:
            context = ssl.create_default_context(cadata=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidSpec(str(error), message="The certificate of the cluster's authority is not readable as PEM.") from error
        # A node's own certificate may be given instead of its authority's, and old authorities lack what newer rules ask for.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def matches(self, der: bytes | None) -> bool:
        """Is this, of a finished handshake, one of the certificates listed? True in the other modes: the handshake has decided."""
        if self.mode != FINGERPRINT:
            return True
        seen = of_der(der) if der else ""
        return any(hmac.compare_digest(seen, allowed) for allowed in self.fingerprints)


def fingerprint_of(host: str, port: int = 8006, seconds: float = CONNECT_SECONDS) -> str:
    """Of the certificate shown there now. Nothing is sent but the handshake, and nothing is trusted. Raises Unreachable."""
    try:
        with (
            socket.create_connection((host, port), timeout=seconds) as plain,
            _blind().wrap_socket(plain, server_hostname=host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        raise Unreachable(f"{host}:{port}: {error}") from error
    if not der:
        raise Unreachable(f"{host}:{port} shows no certificate")
    return of_der(der)


def _blind() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class WrongCertificate(SSLError):
    """Raised inside a connection before a byte of HTTP is sent."""

    def __init__(self, seen: str, allowed: tuple[str, ...]) -> None:
        self.seen, self.allowed = seen, allowed
        super().__init__(f"certificate {seen}")

    @property
    def sentence(self) -> str:
        shown = f"it shows {self.seen}" if self.seen else "it shows none"
        return (
            f"The cluster's certificate is not the one that was agreed upon: {shown}, expected is {' or '.join(self.allowed)}. "
            "Nothing was sent to it. If the certificate was renewed, enter its new fingerprint."
        )


def refused(error: BaseException | None) -> str:
    """The sentence for staff where `error` comes of a certificate that was not trusted; else empty."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        if isinstance(cause, WrongCertificate):
            return cause.sentence
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The cluster's certificate is not trusted: {cause.verify_message or cause.reason}."
        waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return ""


class TrustingAdapter(HTTPAdapter):
    """Makes HTTPS connections that trust as `trust` says, and nobody else: neither requests' own list of authorities,
    nor what the environment names (REQUESTS_CA_BUNDLE), is asked."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        super().__init__(max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._trust.context(), **more)
        if self._trust.mode == FINGERPRINT:
            self.poolmanager.pool_classes_by_scheme = {"https": _pinned(self._trust)}

    def build_connection_pool_key_attributes(self, request: requests.PreparedRequest, verify: bool | str | None, cert: Any = None) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, True, None)
        return host, {}

    def cert_verify(self, conn: Any, url: str, verify: bool | str | None, cert: Any) -> None:
        """The context decides."""


def _pinned(trust: Trust) -> type[HTTPSConnectionPool]:
    class Connection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            der = self.sock.getpeercert(binary_form=True)  # type: ignore[union-attr]
            if not trust.matches(der):
                self.close()
                raise WrongCertificate(of_der(der) if der else "", trust.fingerprints)
            self.is_verified = True

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool
