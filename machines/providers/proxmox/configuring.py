"""Bringing a machine that is off to what its specification says: at most one write of its configuration, then its disk, then its baseline."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from machines.providers.errors import InvalidSpec, ProviderError
from machines.providers.types import MachineIdentity, MachineSpec, Seed, TaskRef

from . import containers, label, machines
from .answers import Forbidden
from .client import Client
from .configs import size_mib, storage_of
from .guests import Guest
from .resources import number
from .snapshots import BASELINE
from .tasks import task_ref

SEEDED_SECONDS = 120.0


class Configurer:
    def __init__(self, client: Client, config: Mapping[str, Any]) -> None:
        self._client = client
        self._bridge = str(config.get("bridge") or "")
        self._with_tags = True
        self._seeded: dict[int, tuple[str, float]] = {}  # by number: of what seed, when
        self._keeps: dict[int, bool] = {}  # by number: can its storage keep snapshots
        self._storages_keep: dict[tuple[str, ...], bool] = {}  # the same by sort of guest and of its volumes

    def forget(self, vmid: int) -> None:
        self._seeded.pop(vmid, None)
        self._keeps.pop(vmid, None)

    def configure(self, identity: MachineIdentity, guest: Guest, spec: MachineSpec) -> TaskRef | None:
        self._write(identity, guest, spec, with_seed=True)
        return self._grow(guest, spec) or self._baseline(guest)

    def resize(self, identity: MachineIdentity, guest: Guest, spec: MachineSpec) -> TaskRef | None:
        has = size_mib(guest.config.get(guest.disk, "")) if guest.disk else None
        if has and spec.disk_gib is not None and spec.disk_gib * 1024 < has:
            raise InvalidSpec(f"{has:.0f} MiB", message="A disk can only grow.")
        self._write(identity, guest, spec, with_seed=False)
        return self._grow(guest, spec)

    def _write(self, identity: MachineIdentity, guest: Guest, spec: MachineSpec, *, with_seed: bool) -> None:
        try:
            self._put(guest, self._changes(identity, guest, spec, with_seed=with_seed))
        except Forbidden as error:
            if not self._with_tags or "tag" not in error.detail:
                raise
            # A cluster may let nobody use tags but its administrators; nothing hangs on them.
            self._with_tags = False
            self._put(guest, self._changes(identity, guest, spec, with_seed=with_seed))
        if with_seed and spec.seed is not None:
            if len(self._seeded) > 1000:
                self._seeded.clear()
            self._seeded[guest.vmid] = _digest(spec.seed), time.monotonic()

    def _put(self, guest: Guest, changes: dict[str, Any]) -> None:
        if changes:
            self._client.put(f"{guest.path}/config", **changes)

    def _changes(self, identity: MachineIdentity, guest: Guest, spec: MachineSpec, *, with_seed: bool) -> dict[str, Any]:
        name = label.guest_name(identity)
        if guest.is_container:
            return containers.changes(guest.config, spec, name=name, bridge=self._bridge, with_tags=self._with_tags)
        if not with_seed:
            return machines.without_seed(guest.config, spec, name=name, bridge=self._bridge, with_tags=self._with_tags)
        # On a used disk a new password would be a new instance to cloud-init, which would make new host keys;
        # the baseline was taken with the password in it.
        pristine = not guest.config.get("parent")
        return machines.changes(
            guest.config,
            spec,
            name=name,
            bridge=self._bridge,
            with_tags=self._with_tags,
            with_password=pristine and spec.seed is not None and not self._was_seeded(guest.vmid, spec.seed),
        )

    def _was_seeded(self, vmid: int, seed: Seed) -> bool:
        digest, at = self._seeded.get(vmid, ("", 0.0))
        return digest == _digest(seed) and time.monotonic() - at < SEEDED_SECONDS

    def _grow(self, guest: Guest, spec: MachineSpec) -> TaskRef | None:
        if guest.disk is None or spec.disk_gib is None:
            return None
        has = size_mib(guest.config[guest.disk])
        if has is None or has >= spec.disk_gib * 1024:
            return None
        return task_ref(self._client.put(f"{guest.path}/resize", disk=guest.disk, size=f"{spec.disk_gib}G"), "resize")

    # -- the baseline ----------------------------------------------------------------------------

    def _baseline(self, guest: Guest) -> TaskRef | None:
        """A machine with a snapshot has had its baseline: taken later, it would keep what was done since."""
        if guest.config.get("parent") or not self.keeps_snapshots(guest):
            return None
        return task_ref(self._client.post(f"{guest.path}/snapshot", snapname=BASELINE, description="As labportal made it."), "baseline")

    def keeps_snapshots(self, guest: Guest) -> bool:
        if guest.vmid not in self._keeps:
            if len(self._keeps) > 1000:
                self._keeps.clear()
            alike = (guest.kind, *sorted({_sort_of(volume) for volume in guest.volumes.values()}))
            if alike not in self._storages_keep:
                answer = self._client.get(f"{guest.path}/feature", feature="snapshot")
                self._storages_keep[alike] = isinstance(answer, dict) and bool(number(answer.get("hasFeature")))
            self._keeps[guest.vmid] = self._storages_keep[alike]
        return self._keeps[guest.vmid]

    def may_keep_snapshots(self, guest: Guest) -> bool:
        """As `keeps_snapshots`, for whoever only wants to say so. Never raises."""
        try:
            return bool(guest.config.get("parent")) or self.keeps_snapshots(guest)
        except ProviderError:
            return True


def _sort_of(volume: str) -> str:
    """Its storage and its format, where the name tells one: a directory keeps snapshots of qcow2 alone."""
    name = volume.partition(",")[0]
    return f"{storage_of(volume) or volume}.{name.rpartition('.')[2] if '.' in name else ''}"


def _digest(seed: Seed) -> str:
    return hashlib.sha256(repr(seed).encode()).hexdigest()
