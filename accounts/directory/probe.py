"""What each server of a directory answers, asked apart from the others: for whoever sets the portal up."""

import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .config import DirectoryConfig

_START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"  # as message 1
_STARTED = bytes.fromhex("0a0100")  # result code success

# What OpenSSL calls what is wrong with a certificate.
_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64
_UNTRUSTED = {18, 19, 20, 21}


@dataclass(frozen=True, slots=True)
class Probe:
    """`tls`: what is known of the encryption. `problem` and `advice` are empty where all is well."""

    uri: str
    milliseconds: int = 0
    tls: str = ""
    problem: str = ""
    advice: str = ""


def probe(uri: str, config: DirectoryConfig) -> Probe:
    """Connect, and shake hands where the settings say so. Takes no longer than twice the time-out of the settings."""
    parts = urlsplit(uri)
    host, secure = parts.hostname or "", parts.scheme == "ldaps"
    began = time.monotonic()
    try:
        with socket.create_connection((host, parts.port or (636 if secure else 389)), config.timeout) as plain:
            plain.settimeout(config.timeout)
            if not secure and not config.start_tls:
                return Probe(uri, _since(began), "no encryption")
            if not secure:
                plain.sendall(_START_TLS)
                if _STARTED not in plain.recv(4096):
                    return Probe(uri, _since(began), problem="it offers no StartTLS", advice=_NO_START_TLS)
            context = ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            with context.wrap_socket(plain, server_hostname=host) as encrypted:
                return Probe(uri, _since(began), _facts(encrypted))
    except ssl.SSLCertVerificationError as error:
        return Probe(
            uri, _since(began), problem=f"its certificate is refused: {error.verify_message}", advice=_about_certificate(error.verify_code, host, config)
        )
    except ssl.SSLError as error:
        return Probe(uri, _since(began), problem=f"it speaks no TLS: {error.reason or error}", advice=_NO_TLS)
    except TimeoutError:
        return Probe(uri, _since(began), problem="nothing answers in time", advice=_SILENT)
    except (socket.gaierror, UnicodeError):
        return Probe(
            uri, _since(began), problem="nobody knows this name", advice="Look for a slip in LDAP_URIS, and whether this computer's name server knows the name."
        )
    except ConnectionRefusedError:
        return Probe(uri, _since(began), problem="no server listens there", advice=_REFUSED)
    except OSError as error:
        return Probe(uri, _since(began), problem=str(error), advice="Look whether this computer reaches the server's network.")


_NO_START_TLS = "Set the server up for TLS, or name it as ldaps:// if it has a port for that."
_NO_TLS = "A port for ldap:// (389) is not one for ldaps:// (636): compare LDAP_URIS with what the server listens on."
_SILENT = "A firewall drops the packets, or the server hangs. Ask from this computer with ldapsearch, and look at LDAP_TIMEOUT if it is only slow."
_REFUSED = "The service is stopped, or listens on another port: 389 for ldap://, 636 for ldaps:// where LDAP_URIS names none."


def _about_certificate(code: int, host: str, config: DirectoryConfig) -> str:
    if code in (_EXPIRED, _NOT_YET):
        return "Renew the certificate on the server, and compare the clocks."
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"The certificate is for another name than {host}. In LDAP_URIS, name the server as its certificate does."
    if code in _UNTRUSTED and config.ca_file is None:
        return "This computer does not trust the authority that signed it. Give its certificate, as PEM, with LDAP_CA_FILE."
    if code in _UNTRUSTED:
        return (
            f"It is not signed by an authority of {config.ca_file}. LDAP_CA_FILE must hold the authority's certificate, and those between it and the server's."
        )
    return "The certificate must be made anew."


def _facts(encrypted: ssl.SSLSocket) -> str:
    certificate: Any = encrypted.getpeercert() or {}
    issuer = ", ".join(value for rdn in certificate.get("issuer", ()) for kind, value in rdn if kind in ("organizationName", "commonName"))
    names = ", ".join(value for _kind, value in certificate.get("subjectAltName", ()))
    return f"{encrypted.version()}, certificate for {names or 'no name'} by {issuer or 'nobody'}, valid until {certificate.get('notAfter', '?')}"


def _since(began: float) -> int:
    return round(1000 * (time.monotonic() - began))
