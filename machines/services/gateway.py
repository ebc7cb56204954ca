"""From rows to what providers take: the only place where both are known."""

import json
import os
import threading
from typing import Any

from django.conf import settings

from accounts.services import ssh_keys
from machines.models import Cluster, Machine
from machines.providers.base import Provider
from machines.providers.registry import provider_class
from machines.providers.types import MachineIdentity, MachineSpec, ProviderSettings, Seed

_local = threading.local()


def provider_for(cluster: Cluster) -> Provider:
    """The provider of `cluster` for this thread, kept until the row's settings change.
    Raises Unsupported where its SDK is not installed."""
    held: dict[tuple[int, int], tuple[str, Provider]] = _local.__dict__.setdefault("providers", {})
    place = os.getpid(), cluster.pk  # connections do not survive a fork
    wanted = json.dumps([cluster.kind, cluster.name, cluster.config, cluster.secret, cluster.terminal_password], sort_keys=True)
    known, provider = held.get(place, ("", None))
    if provider is None or known != wanted:
        if provider is not None:
            provider.close()
        settings_of_cluster = ProviderSettings(
            cluster=cluster.name, portal=settings.PORTAL_ID, config=cluster.config, secret=cluster.secret, terminal_password=cluster.terminal_password
        )
        provider = provider_class(cluster.kind)(settings_of_cluster)
        held[place] = wanted, provider
    provider.adopted = tuple(cluster.adopted)
    return provider


def close_providers() -> None:
    """Give back what this thread holds. Call it where a thread ends."""
    held = _local.__dict__.pop("providers", {})
    for (pid, _), (_, provider) in held.items():
        if pid == os.getpid():
            provider.close()


def identity(machine: Machine) -> MachineIdentity:
    return MachineIdentity(key=str(machine.key), name=machine.name, portal=settings.PORTAL_ID)


def told_of_person(machine: Machine) -> dict[str, Any]:
    """What the guest of `machine` would be told of its person now: their keyboard, and their SSH keys
    beside the portal's own. In one query more than the owner costs."""
    owner = machine.owner
    return {"keyboard": owner.keyboard, "ssh_keys": ssh_keys.lines(owner)} if owner else {}


def new_seed(machine: Machine) -> dict[str, Any]:
    """The columns of a machine whose guest has its first boot ahead."""
    return {"seeded_with": told_of_person(machine), "seed_read": False}


def spec(machine: Machine) -> MachineSpec:
    """How `machine` is to be made. Reads its template."""
    template = machine.template
    seed = None
    if machine.username:
        seed = Seed(
            hostname=machine.name,
            username=machine.username,
            password=machine.password,
            ssh_keys=tuple(filter(None, [machine.ssh_public_key, *machine.seeded_with.get("ssh_keys", [])])),
            keyboard=machine.seeded_with.get("keyboard", "us"),
        )
    return MachineSpec(
        template=template.ref,
        cores=machine.cores,
        memory_mib=machine.memory_mib,
        disk_gib=machine.disk_gib or template.disk_gib,
        linked=template.linked,
        seed=seed,
    )
