"""What machines can be made of: machines and containers that are templates, and OS templates of containers."""

from collections.abc import Iterable, Mapping
from typing import Any

from machines.providers.errors import ProviderError
from machines.providers.types import SEVERAL, TemplateInfo

from . import machines
from .client import Client
from .configs import size_mib, storage_of
from .guests import Guest, Guests
from .making import Maker
from .resources import Resources

DESCRIPTION_CHARACTERS = 500


def list_templates(client: Client, guests: Guests, maker: Maker, config: Mapping[str, Any]) -> list[TemplateInfo]:
    """Those on nodes that may be used and that answer. Raises Unreachable, AuthFailed."""
    found = guests.resources()
    allowed = {str(node) for node in config.get("nodes") or found.nodes}
    usable = {name for name, node in found.nodes.items() if node.online and name in allowed}
    copies = {ref: [str(copy) for copy in numbers] for ref, numbers in (config.get("template_copies") or {}).items()}
    of_others = {copy for numbers in copies.values() for copy in numbers}
    listed: list[TemplateInfo] = []
    for line in found.guests.values():
        # A template on another node will do where its storage is shared: it is listed wherever it is.
        if not line.template or str(line.vmid) in of_others or not found.online(line.node):
            continue
        try:
            template = guests.template(line.vmid, line.kind, line.node)
            listed.append(_of_guest(template, line.name, _places(guests, found, template, copies.get(str(line.vmid), ()))))
        except ProviderError:
            continue  # gone meanwhile, or not for us
    return listed + _os_templates(guests, maker, usable)


def _of_guest(template: Guest, name: str | None, places: tuple[str, str]) -> TemplateInfo:
    config = template.config
    size = size_mib(config.get(template.disk, "")) if template.disk else None
    return TemplateInfo(
        ref=str(template.vmid),
        name=name or str(config.get("hostname" if template.is_container else "name") or template.vmid),
        disk_gib=(size or 0) / 1024,
        description=str(config.get("description") or "")[:DESCRIPTION_CHARACTERS],
        username=str(config.get("ciuser") or ""),
        kind="container" if template.is_container else "vm",
        seeded=not template.is_container and machines.has_cloud_init(config),
        node=places[0],
        storage=places[1],
    )


def _places(guests: Guests, found: Resources, template: Guest, copies: Iterable[str]) -> tuple[str, str]:
    """The nodes that clone this template or a copy of it, and the storages they do it on. A storage that is not
    shared is another one on each node."""
    lines = [found.guests[int(copy)] for copy in copies if copy.isdecimal() and int(copy) in found.guests]
    nodes, storages = set(), set()
    for one in (template, *(guests.template(line.vmid, line.kind, line.node) for line in lines if found.online(line.node))):
        nodes.add(one.node)
        if one.disk and (storage := storage_of(one.config[one.disk])):
            storages.add(storage if found.shared(storage) else f"{one.node}/{storage}")
    return SEVERAL.join(sorted(nodes)), SEVERAL.join(sorted(storages))


def _os_templates(guests: Guests, maker: Maker, usable: set[str]) -> list[TemplateInfo]:
    found = guests.resources(60.0)
    asked = [line for line in found.storages if "vztmpl" in line.content and line.active and line.node in usable]
    seen: dict[str, TemplateInfo] = {}
    shared: set[str] = set()
    for line in sorted(asked, key=lambda line: (line.name, line.node)):
        if line.name in shared:
            continue
        try:
            volumes = maker.os_templates(line.node, line.name)
        except ProviderError:
            continue
        if line.shared:
            shared.add(line.name)
        for volume in volumes:
            name = volume.rpartition("/")[2].partition(".tar")[0]
            seen.setdefault(volume, TemplateInfo(ref=volume, name=name, username="root", kind="container", seeded=True))
    return list(seen.values())
