"""What the portal's account may do on the cluster, in sentences for whoever has to set it up; and people who sign in
with an account of the cluster's."""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from machines.providers import notation
from machines.providers.errors import AuthFailed, InvalidSpec, ProviderError
from machines.providers.types import Check

from .answers import clean
from .client import Client, SecondFactorWanted, Ticket
from .configs import numbers, storage_of
from .containers import BRIDGE
from .resources import lines
from .tls import CA, FINGERPRINT, fingerprint_of

OLDEST = (7, 0)
TEMPLATES_CHECKED = 20

MACHINES_ROLE = "LabportalMachines"
MACHINE_PRIVILEGES = (
    "VM.Audit",
    "VM.Allocate",
    "VM.PowerMgmt",
    "VM.Console",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
    "VM.Config.Options",
    "VM.Config.CPU",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Disk",
    "VM.Config.Cloudinit",
)
_DISK = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+|rootfs")


@dataclass(frozen=True)
class Need:
    """Privileges at a path. `grant_at`: where the command grants them, when that is not the path itself."""

    what: str
    path: str
    privileges: tuple[str, ...]
    role: str
    grant_at: str = ""
    builtin: bool = True  # every cluster has the role


def machine_privileges(version: tuple[int, int]) -> tuple[str, ...]:
    """What the machines need. PVE 9 has divided VM.Monitor into rights on the guest agent."""
    return (*MACHINE_PRIVILEGES, "VM.GuestAgent.Audit" if version >= (9, 0) else "VM.Monitor")


def check(client: Client, config: Mapping[str, Any]) -> list[Check]:
    """What works and what does not, a sentence each, with the command that helps. Never raises."""
    checks = [_endpoint(client, endpoint) for endpoint in client.endpoints]
    if not any(line.ok for line in checks):
        return checks
    try:
        version = client.version
        checks.append(
            Check("Version", version >= OLDEST, f"Proxmox VE {version[0]}.{version[1]}." + ("" if version >= OLDEST else " The portal needs 7 or newer."))
        )
        checks.append(_account(client))
    except ProviderError as error:
        return [*checks, Check("Account", False, _told(error))]
    if not checks[-1].ok:
        return checks
    checks.append(_guarded("Nodes", lambda: _nodes(client, config)))
    templates = _templates(client, config, checks)
    containers = _os_templates(client, config, checks)
    for need in _needs(client, config, version, templates, containers):
        checks.append(_guarded(need.what, lambda need=need: _held(client, need)))  # type: ignore[misc]
    return checks


def realm_login(config: Mapping[str, Any], username: str, password: str, secret: str = "") -> dict[str, Any] | None:
    """The user name and groups of somebody who gives their own name and password of the cluster; None where those are wrong.

    Groups are read with the portal's own account (`secret`), and are None where it could not read them.
    Raises SecondFactorWanted where the account asks for more than a password, Unreachable.
    """
    # A ticket would be taken for a password, and is none that a person types.
    if not notation.is_person(username) or not password or password.startswith(("PVE:", "PVE!")):
        return None
    person = Client({**config, "user": username, "token_name": ""}, password)
    try:
        signed_in = person.sign_in()
    except SecondFactorWanted:
        raise
    except (AuthFailed, InvalidSpec):
        return None
    finally:
        person.close()
    return {"user": signed_in.user, "groups": _groups(config, secret, signed_in)}


def _groups(config: Mapping[str, Any], secret: str, signed_in: Ticket) -> list[str] | None:
    if not secret:
        return None
    portal = Client(config, secret)
    try:
        told = portal.get(f"access/users/{signed_in.user}")
    except ProviderError:
        return None
    finally:
        portal.close()
    groups = told.get("groups") if isinstance(told, dict) else None
    if isinstance(groups, str):  # older versions
        groups = [name for name in re.split(r"[,; ]+", groups) if name]
    return sorted(str(name) for name in groups) if isinstance(groups, list) else []


def certificates(config: Mapping[str, Any]) -> list[Check]:
    """The fingerprint each endpoint shows now, for whoever compares it before it is trusted. Never raises."""
    lines = []
    for text in config.get("endpoints") or ():
        host, _, port = str(text).rpartition(":")
        try:
            shown = fingerprint_of(host.strip("[]"), int(port))
        except (ProviderError, ValueError) as error:
            lines.append(Check(f"Certificate of {text}", False, str(error)))
        else:
            lines.append(Check(f"Certificate of {text}", True, f"Shown now: {shown}. Compare it with the line of “pvenode cert info” on the node itself."))
    return lines


# -- the lines --------------------------------------------------------------------------------


def _told(error: ProviderError) -> str:
    return f"{error.message} ({error.detail})" if error.detail else error.message


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except ProviderError as error:
        return Check(name, False, _told(error))


def _endpoint(client: Client, endpoint: str) -> Check:
    alone = client.only(endpoint)
    trusted = {CA: "by the authority given", FINGERPRINT: "by its fingerprint"}.get(str(client.config.get("tls")), "by this machine's authorities")
    try:
        version = alone.version
    except AuthFailed as error:
        return Check(f"Endpoint {endpoint}", True, f"Answers, and its certificate is trusted {trusted}. {error.message}")
    except ProviderError as error:
        return Check(f"Endpoint {endpoint}", False, _told(error))
    finally:
        alone.close()
    return Check(f"Endpoint {endpoint}", True, f"Answers as Proxmox VE {version[0]}.{version[1]}, and its certificate is trusted {trusted}.")


def _account(client: Client) -> Check:
    who = f"{client.user}!{client.token_name}" if client.token_name else client.user
    permissions = client.get("access/permissions")
    if not permissions:
        told = f"Signed in as {who}, which may do nothing at all."
        if client.token_name:
            told += " A token with privilege separation needs grants of its own, and so does its user."
        return Check("Account", False, told)
    return Check("Account", True, f"Signed in as {who}.")


def _nodes(client: Client, config: Mapping[str, Any]) -> Check:
    nodes = {str(node.get("node")): node.get("status") == "online" for node in lines(client.get("nodes"))}
    wanted = [str(name) for name in config.get("nodes") or ()]
    unknown = [name for name in wanted if name not in nodes]
    off = [name for name, online in nodes.items() if not online and (not wanted or name in wanted)]
    told = f"{len(nodes) - len([name for name, online in nodes.items() if not online])} of {len(nodes)} are online: {', '.join(sorted(nodes))}."
    if unknown:
        told += f" The cluster has no {', '.join(unknown)}: correct the list of nodes."
    if off:
        told += f" Not online: {', '.join(sorted(off))}."
    return Check("Nodes", bool(nodes) and not unknown and not off, told)


def _templates(client: Client, config: Mapping[str, Any], checks: list[Check]) -> list[dict[str, Any]]:
    """Those the account sees, with their configurations; adds the line about them."""

    def look() -> Check:
        for line in lines(client.get("cluster/resources", type="vm")):
            if line.get("template") and line.keys() >= {"node", "type", "vmid"}:
                found.append(line)
        if not found:
            command = _command(client, Need("", "/vms/9000", (), "PVETemplateUser"))
            return Check("Templates", False, f"The account sees no template. Make one, and let the account use it; for one with the number 9000: {command}")
        names = ", ".join(f"{line.get('vmid')} ({line.get('name', '')})" for line in found[:TEMPLATES_CHECKED])
        return Check("Templates", True, f"{len(found)} found: {clean(names)}.")

    found: list[dict[str, Any]] = []
    checks.append(_guarded("Templates", look))
    del found[TEMPLATES_CHECKED:]
    for line in found:
        try:
            line["config"] = client.get(f"nodes/{line['node']}/{line['type']}/{line['vmid']}/config")
        except ProviderError:
            line["config"] = {}  # the line about its privileges says why
    return found


def _os_templates(client: Client, config: Mapping[str, Any], checks: list[Check]) -> set[str]:
    """The storages that containers from OS templates may be put on; empty where the account sees no such template. Adds the line about them."""

    def look() -> Check:
        storages = [line for line in lines(client.get("cluster/resources", type="storage")) if line.keys() >= {"node", "storage", "content"}]
        for line in storages:
            if "vztmpl" in contents(line) and line.get("status") in ("available", None):
                held = lines(client.get(f"nodes/{line['node']}/storage/{line['storage']}/content", content="vztmpl"))
                if held:
                    found.update(str(each["storage"]) for each in storages if "rootdir" in contents(each))
                    return Check("OS templates", True, f"The account sees those on {line['storage']}. Containers made of them have credentials of their own.")
        command = _command(client, Need("", "/storage/local", (), "PVEDatastoreUser"))
        told = "The account sees none. Containers with credentials of their own are made of OS templates: download one, and let the account use its storage"
        return Check("OS templates", True, f"{told}; for the storage local: {command}")

    def contents(line: Mapping[str, Any]) -> list[str]:
        return str(line["content"]).split(",")

    found: set[str] = set()
    checks.append(_guarded("OS templates", look))
    wanted = {str(name) for name in config.get("storages") or ()}
    return found & wanted if wanted else found


def _needs(
    client: Client, config: Mapping[str, Any], version: tuple[int, int], templates: Iterable[Mapping[str, Any]], for_containers: Collection[str]
) -> Iterator[Need]:
    pool = str(config.get("pool") or "")
    if pool:
        yield Need(f"Machines in the pool {pool}", f"/pool/{pool}", (*machine_privileges(version), "Pool.Audit"), MACHINES_ROLE, builtin=False)
    else:
        first = numbers(config)[0]
        yield Need("Machines", f"/vms/{first}", machine_privileges(version), MACHINES_ROLE, grant_at="/vms", builtin=False)
    chosen = {str(line["vmid"]) for line in templates}
    chosen |= {str(copy) for copies in (config.get("template_copies") or {}).values() for copy in copies}
    for number in sorted(chosen, key=lambda text: (len(text), text)):
        yield Need(f"Template {number}", f"/vms/{number}", ("VM.Audit", "VM.Clone"), "PVETemplateUser")
    configs = [line["config"] for line in templates if isinstance(line.get("config"), Mapping)]
    storages = {str(name) for name in config.get("storages") or ()} | {name for told in configs for name in _storages(told)} | set(for_containers)
    for storage in sorted(storages):
        yield Need(f"Storage {storage}", f"/storage/{storage}", ("Datastore.AllocateSpace", "Datastore.Audit"), "PVEDatastoreUser")
    if version >= (8, 0):
        bridges = {name for told in configs for name in _bridges(told)} | ({BRIDGE} if for_containers else set())
        if config.get("bridge"):
            bridges = {str(config["bridge"])}
        zones = _zones(client) if bridges else {}
        for bridge in sorted(bridges):
            yield Need(f"Network {bridge}", f"/sdn/zones/{zones.get(bridge, 'localnetwork')}/{bridge}", ("SDN.Use",), "PVESDNUser")
    nodes = [str(name) for name in config.get("nodes") or ()]
    if not nodes:
        try:
            nodes = [str(line["node"]) for line in lines(client.get("nodes")) if "node" in line]
        except ProviderError:
            return  # the line about the nodes says why
    for node in sorted(nodes):
        yield Need(f"Load of the node {node}", f"/nodes/{node}", ("Sys.Audit",), "PVEAuditor", grant_at="/nodes")
    if config.get("realm_login") and config.get("admin_group"):
        yield Need("Groups of people", f"/access/groups/{config['admin_group']}", ("Sys.Audit",), "PVEAuditor", grant_at="/access/groups")


def _held(client: Client, need: Need) -> Check:
    told = client.get("access/permissions", path=need.path)
    held = told.get(need.path) if isinstance(told, dict) else None
    missing = [privilege for privilege in need.privileges if privilege not in (held or {})]
    if not missing:
        return Check(need.what, True, f"The account has what it needs on {need.path}.")
    above = need.path.rpartition("/")[0]
    told = client.get("access/permissions", path=above)
    there = told.get(above) if isinstance(told, dict) else None
    stuck = f" It is granted on {above} without being propagated." if there and all(there.get(privilege) == 0 for privilege in missing) else ""
    return Check(need.what, False, f"Missing on {need.path}: {', '.join(missing)}.{stuck} On a node of the cluster: {_command(client, need)}")


def _command(client: Client, need: Need) -> str:
    """What an administrator enters. The user and its token are granted the same: what a token may do is what both may."""
    path = need.grant_at or need.path
    who = f"--users {shlex.quote(client.user)}"
    if client.token_name:
        who += f" --tokens {shlex.quote(f'{client.user}!{client.token_name}')}"
    grant = f"pveum acl modify {shlex.quote(path)} {who} --roles {need.role} --propagate 1"
    if need.builtin:
        return grant
    privileges = " ".join(need.privileges)
    return f"pveum role add {need.role} --privs '{privileges}' (role modify where the role exists), then {grant}"


# -- reading configurations -----------------------------------------------------------------------


def _storages(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if _DISK.fullmatch(name) and (storage := storage_of(value)):
            yield storage


def _bridges(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        found = re.search(r"(?:^|,)bridge=([^,\s]+)", str(value)) if re.fullmatch(r"net\d+", name) else None
        if found:
            yield found[1]


def _zones(client: Client) -> dict[str, str]:
    """Of the networks that software defines. All others are in the zone localnetwork."""
    try:
        return {str(line["vnet"]): str(line["zone"]) for line in lines(client.get("cluster/sdn/vnets")) if line.get("vnet") and line.get("zone")}
    except ProviderError:
        return {}
