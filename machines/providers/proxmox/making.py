"""The calls that make a guest: which template, where to, under which name."""

from collections.abc import Mapping
from typing import Any

from machines.providers import room
from machines.providers.errors import InvalidSpec, NoCapacity, TemplateMissing
from machines.providers.types import MachineIdentity, MachineSpec, Power, TaskRef

from . import containers, label
from .answers import CannotLink, NotThere
from .client import Client
from .configs import numbers, size_mib, storage_of
from .guests import FRESH_SECONDS, Guest, Guests
from .placement import Ledger, Place, Source, choose_node, choose_source, choose_storage
from .resources import MIB, Resources, lines, number
from .tasks import task_ref

Call = tuple[str, str, dict[str, Any]]


class Maker:
    def __init__(self, client: Client, guests: Guests, config: Mapping[str, Any], cluster: str, ledger: Ledger) -> None:
        self._client, self._guests, self._config, self._cluster, self._ledger = client, guests, config, cluster, ledger
        self._nodes = room.nodes(config)
        self._storages = tuple(str(storage) for storage in config.get("storages") or ())
        self._reserve = room.reserve_mib(config)
        self._ours = numbers(config)
        self._never_linked: set[str] = set()  # templates whose storage makes full copies only

    def begin(self, identity: MachineIdentity, vmid: int, spec: MachineSpec) -> TaskRef | None:
        """Raises TemplateMissing, NoCapacity, AlreadyThere, Busy, OutcomeUnknown …"""
        try:
            return self._send(self.plan(identity, vmid, spec), spec)
        except CannotLink:
            self._never_linked.add(spec.template)
            return self._send(self.plan(identity, vmid, spec), spec)

    def plan(self, identity: MachineIdentity, vmid: int, spec: MachineSpec) -> Call:
        """The call that makes it: path, node it will be on, parameters. Changes nothing."""
        named: dict[str, Any] = {"description": label.describe(identity)}
        if pool := self._config.get("pool"):
            named["pool"] = pool
        if containers.is_os_template(spec.template):
            return self._creation(label.guest_name(identity), vmid, spec, named)
        for max_age in (FRESH_SECONDS, 0.0):
            try:
                return self._clone(label.guest_name(identity), vmid, spec, named, max_age)
            except NotThere as error:  # the template was moved a moment ago
                missing = error
        raise TemplateMissing(missing.detail)

    def _send(self, call: Call, spec: MachineSpec) -> TaskRef | None:
        path, node, given = call
        try:
            answer = self._client.post(path, **given)
        except NotThere as error:
            raise TemplateMissing(error.detail) from error
        self._ledger.note(self._cluster, node, spec.memory_mib)
        return task_ref(answer, "create")

    def _expected(self, found: Resources) -> dict[str, int]:
        """MiB by node that machines of ours will take which are off: a class is made first and started later."""
        expected: dict[str, int] = {}
        for line in found.guests.values():
            if line.vmid in self._ours and line.power is not Power.ON:
                expected[line.node] = expected.get(line.node, 0) + (number(line.figures.get("maxmem")) or 0) // MIB
        return expected

    # -- clones ----------------------------------------------------------------------------------

    def _clone(self, name: str, vmid: int, spec: MachineSpec, named: dict[str, Any], max_age: float) -> Call:
        found = self._guests.resources(max_age)
        templates = self._copies(spec.template, max_age)
        place = choose_source(
            [self._source(template) for template in templates],
            found.nodes,
            spec.memory_mib,
            allowed=self._nodes,
            promised=self._ledger.promised(self._cluster),
            expected=self._expected(found),
            reserve_mib=self._reserve,
        )
        template = next(copy for copy in templates if copy.vmid == place.source.vmid)
        given = named | {"newid": vmid, ("hostname" if template.is_container else "name"): name}
        if place.target:
            given["target"] = place.target
        full = not spec.linked or spec.template in self._never_linked
        given["full"] = int(full)
        if full and self._storages:
            given["storage"] = self._storage(place, template, spec)
        return f"{template.path}/clone", place.node, given

    def _copies(self, ref: str, max_age: float) -> list[Guest]:
        """The template and what is set to be a copy of it, where they are."""
        copies = (self._config.get("template_copies") or {}).get(ref, ())
        found = self._guests.resources(max_age)
        templates: list[Guest] = []
        for copy in dict.fromkeys([ref, *map(str, copies)]):
            line = found.guests.get(int(copy)) if copy.isascii() and copy.isdigit() else None
            if line is None or line.template is False:
                continue
            if line.node in found.nodes and not found.nodes[line.node].online:
                templates.append(Guest(line.vmid, line.kind, line.node))  # it cannot be asked; a sentence will name its node
                continue
            template = self._guests.template(line.vmid, line.kind, line.node)
            if line.template or template.config.get("template"):
                templates.append(template)
        if not templates or any(template.kind != templates[0].kind for template in templates):
            raise TemplateMissing(f"template {ref}" if not templates else f"{ref} has copies of another kind")
        return templates

    def _source(self, template: Guest) -> Source:
        found = self._guests.resources(FRESH_SECONDS)
        storages = {storage_of(volume) for volume in template.volumes.values()}
        return Source(template.vmid, template.node, bool(storages) and all(storage and found.shared(storage) for storage in storages))

    def _storage(self, place: Place, template: Guest, spec: MachineSpec) -> str:
        size = size_mib(template.config.get(template.disk, "")) if template.disk else None
        need = max(int(size or 0), 1024 * (spec.disk_gib or 0))
        content = "rootdir" if template.is_container else "images"
        return choose_storage(self._guests.resources(FRESH_SECONDS).storages, place.node, content, need, self._storages)

    # -- containers from OS templates ----------------------------------------------------------------

    def _creation(self, name: str, vmid: int, spec: MachineSpec, named: dict[str, Any]) -> Call:
        found = self._guests.resources(FRESH_SECONDS)
        holders = self._holders(spec.template)
        node = choose_node(
            found.nodes,
            spec.memory_mib,
            reachable=holders,
            allowed=self._nodes,
            promised=self._ledger.promised(self._cluster),
            expected=self._expected(found),
            reserve_mib=self._reserve,
        )
        storage = choose_storage(found.storages, node, "rootdir", 1024 * (spec.disk_gib or containers.DISK_GIB), self._storages)
        given = containers.creation(spec, name=name, storage=storage, bridge=str(self._config.get("bridge") or ""))
        return f"nodes/{node}/lxc", node, named | given | {"vmid": vmid}

    def _holders(self, volume: str) -> set[str]:
        """The nodes that reach this OS template. Raises TemplateMissing."""
        storage = volume.partition(":")[0]
        found = self._guests.resources(FRESH_SECONDS)
        nodes = {line.node for line in found.storages if line.name == storage and line.active and found.nodes.get(line.node) and found.nodes[line.node].online}
        if not nodes:
            if any(line.name == storage for line in found.storages):
                raise NoCapacity(storage, message=f"The storage {storage} is not available on any node of the cluster at the moment.")
            raise TemplateMissing(volume)
        asked = sorted(nodes)[:1] if found.shared(storage) else sorted(nodes)
        holders = {node for node in asked if volume in self.os_templates(node, storage)}
        if not holders:
            raise TemplateMissing(volume)
        return nodes if found.shared(storage) else holders

    def os_templates(self, node: str, storage: str) -> dict[str, int]:
        """Size in bytes by volume."""
        answer = self._client.get(f"nodes/{node}/storage/{storage}/content", content="vztmpl")
        return {str(line["volid"]): int(line.get("size") or 0) for line in lines(answer) if line.get("volid")}


def vmid_of(ref: str) -> int:
    if not (ref.isascii() and ref.isdigit()):
        raise InvalidSpec(f"ref {ref!r} is no number")
    return int(ref)
