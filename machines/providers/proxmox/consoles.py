"""Screens and text consoles: asked for and then opened at the same node, within ten seconds."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from machines.providers.errors import NotRunning, ProviderError, Unreachable, Unsupported
from machines.providers.types import Check, ConsoleKind, ConsoleTarget

from . import tls
from .client import Client
from .guests import Guest

TOKENS_IN_TERMINALS = (8, 4)  # nothing older was given the packages below
_PACKAGES = "qemu-server 9.1.7 and pve-container 6.1.3 (Proxmox VE 8: 8.4.7 and 5.3.4)"
_NO_TOKENS = "This version of Proxmox VE opens text consoles for the password of an account only, not for API tokens."


def open_console(client: Client, config: Mapping[str, Any], guest: Guest, kind: ConsoleKind) -> ConsoleTarget:
    """`guest` is on. Raises Unsupported, NotRunning, Unreachable, Overloaded."""
    if kind is ConsoleKind.TERMINAL:
        _require_terminal(client, guest)
    with client.pinned() as here:
        fingerprint = _fingerprint(config, here.endpoint)  # before the call: what it opens waits for ten seconds
        if kind is ConsoleKind.SCREEN:
            answer = here.post(f"{guest.path}/vncproxy", websocket=1)
        elif guest.is_container:
            answer = here.post(f"{guest.path}/termproxy")
        else:
            answer = here.post(f"{guest.path}/termproxy", serial="serial0")
        if not isinstance(answer, dict) or not answer.get("ticket") or not answer.get("port"):
            raise Unreachable("no ticket in the answer", message="The cluster did not open the console.")
        endpoint, ticket = here.endpoint, str(answer["ticket"])
        return ConsoleTarget(
            kind=kind,
            url=f"wss://{endpoint}/api2/json/{guest.path}/vncwebsocket?port={int(answer['port'])}&vncticket={quote(ticket, safe='')}",
            headers=dict(here.headers),
            ca=str(config.get("ca") or "") if config.get("tls") == tls.CA else "",
            fingerprint=fingerprint,
            password=str(answer.get("password") or ticket) if kind is ConsoleKind.SCREEN else "",
            greeting=f"{answer.get('user')}:{ticket}\n" if kind is ConsoleKind.TERMINAL else "",
        )


def require_on(status: object) -> None:
    if not isinstance(status, dict) or status.get("status") != "running":
        raise NotRunning("console of a machine that is off")


def check(client: Client) -> list[Check]:
    """Whether text consoles open for the account of `client`. Never raises."""
    try:
        client.get("version")  # signs in
        missing = _NO_TOKENS if _refuses_tokens(client) else ""
    except ProviderError as error:
        missing = f"{error.message} ({error.detail})" if error.detail else error.message
    works = f"They open for a token where the nodes have {_PACKAGES} or newer. Before, they need a password." if client.token_name else "They open by password."
    return [Check("Text consoles", not missing, missing or works)]


def _refuses_tokens(client: Client) -> bool:
    return bool(client.token_name) and client.version < TOKENS_IN_TERMINALS


def _require_terminal(client: Client, guest: Guest) -> None:
    if not guest.is_container and not guest.config.get("serial0"):
        raise Unsupported(f"{guest.vmid} has no serial0", message="This machine has no serial console.")
    if _refuses_tokens(client):
        raise Unsupported(str(client.version), message=_NO_TOKENS)


def _fingerprint(config: Mapping[str, Any], endpoint: str) -> str:
    """The one of those trusted that this endpoint shows."""
    if config.get("tls") != tls.FINGERPRINT:
        return ""
    allowed = tls.Trust.of(config).fingerprints
    if len(allowed) == 1:
        return allowed[0]
    host, _, port = endpoint.rpartition(":")
    shown = tls.fingerprint_of(host.strip("[]"), int(port))
    if shown not in allowed:
        raise Unreachable(shown, message="The cluster's certificate is not one that was agreed upon.")
    return shown
