"""Proxmox VE clusters out of a file that an installation comes with."""

import json
import ssl
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.services import audit
from machines.models import Cluster, ClusterKind
from machines.models.cluster import PROXMOX_LIMITS
from machines.providers import notation
from machines.providers.errors import InvalidSpec

from .refusal import Refused


def endpoint(text: str) -> str:
    """'host:port' of what was entered. Raises Refused."""
    try:
        return notation.endpoint(text)
    except InvalidSpec as error:
        raise Refused(_("“%(text)s” is not a host and a port, such as pve1.example.org:8006.") % {"text": text}, code="bad_endpoint") from error


def account(text: str) -> tuple[str, str]:
    """User and name of the token, which is empty for a user by himself. Raises Refused."""
    try:
        return notation.account(text)
    except InvalidSpec as error:
        raise Refused(_("An account is user@realm, and a token user@realm!name."), code="bad_account") from error


def fingerprint(text: str) -> str:
    """A SHA-256 as Proxmox VE shows it, 'AA:BB:…'. Raises Refused."""
    try:
        return notation.fingerprint(text)
    except InvalidSpec as error:
        problem = _("“%(text)s” is not a SHA-256 fingerprint: 32 pairs of hexadecimal digits.") % {"text": text[:120]}
        raise Refused(problem, code="bad_fingerprint") from error


def authority(pem: str) -> str:
    """The certificate of an authority. Raises Refused."""
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(_("This is not a certificate in PEM: it begins with -----BEGIN CERTIFICATE-----."), code="bad_authority") from error
    return pem


def load(path: str | Path) -> list[Cluster]:
    """Bring the rows of the clusters in the file in line with it; all or none. What else staff set
    up for them stays, and clusters that are not in it too. Raises Refused."""
    try:
        told = json.loads(_read(str(path)))
    except (ValueError, RecursionError) as error:
        raise Refused(_("%(path)s cannot be read: %(error)s") % {"path": path, "error": error}, code="bad_file") from error
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise Refused(_("%(path)s is not a list of clusters.") % {"path": path}, code="bad_file")
    with transaction.atomic():
        return [_put(each, number) for number, each in enumerate(told, 1)]


def _put(told: dict[str, Any], number: int) -> Cluster:
    name = str(told.get("name") or told.get("id") or "")
    try:
        config, secret, terminal_password = _settings(told)
    except Refused as refusal:
        raise Refused(f"{name or number}: {refusal.message}", code=refusal.code) from refusal
    if not 0 < len(name) <= 60:
        raise Refused(_("Cluster %(number)d has no name of at most 60 characters.") % {"number": number}, code="bad_file")
    rows = Cluster.objects.select_for_update()
    cluster = (rows.filter(config__file_id=config["file_id"]).first() if config["file_id"] else None) or rows.filter(name=name).first()
    if cluster is None:
        cluster = Cluster(kind=ClusterKind.PROXMOX, **PROXMOX_LIMITS)
    elif cluster.kind != ClusterKind.PROXMOX:
        raise Refused(_("%(name)s: there is a cluster of this name that is no Proxmox VE.") % {"name": name}, code="exists")
    wanted = {"tls": "system", **cluster.config, **config}
    values = {"name": name, "config": wanted, "secret": secret, "terminal_password": terminal_password or cluster.terminal_password}
    if any(getattr(cluster, column) != value for column, value in values.items()):
        for column, value in values.items():
            setattr(cluster, column, value)
        cluster.save(update_fields=[*values] if cluster.pk else None)
        audit.record("cluster.loaded", acting_user=None, target=cluster)
    return cluster


def _settings(told: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Config, secret, and the password for text consoles: beside a token, a password is for these."""
    hosts = told.get("host") if isinstance(told.get("host"), list) else [told.get("host") or ""]
    token, user = str(told.get("token") or ""), str(told.get("user") or "")
    if token:
        whole, equals, value = token.partition("=")
        who, secret = (whole if "!" in whole else f"{user.partition('!')[0]}!{whole}", value) if equals else (user, token)
    else:
        who, secret = user, str(told.get("password") or "")
    account_name, token_name = account(who)
    if token and not token_name:
        raise Refused(_("The token has no name: write it as user@realm!name=secret."), code="bad_account")
    if not secret:
        raise Refused(_("A password or a token is missing."), code="bad_account")
    config = {"file_id": str(told.get("id") or ""), "endpoints": [endpoint(str(host)) for host in hosts or []], "user": account_name, "token_name": token_name}
    return {**config, **_trust(told)}, secret, str(told.get("password") or "") if token else ""


def _trust(told: dict[str, Any]) -> dict[str, Any]:
    """Empty where the file says nothing: then it stays as staff set it."""
    if given := told.get("fingerprint"):
        each = given if isinstance(given, list) else [given]
        return {"tls": "fingerprint", "fingerprints": [fingerprint(str(text)) for text in each]}
    if given := str(told.get("ca") or ""):
        return {"tls": "ca", "ca": authority(given if "-----BEGIN" in given else _read(given))}
    if "verify_ssl" not in told:
        return {}
    if not told["verify_ssl"]:
        message = _("Certificates are always checked. Give the cluster's “fingerprint” (SHA-256, shown by “pvenode cert info”) instead of “verify_ssl”: false.")
        raise Refused(message, code="not_verified")
    return {"tls": "system"}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError) as error:
        raise Refused(_("%(path)s cannot be read: %(error)s") % {"path": path, "error": error}, code="bad_file") from error
