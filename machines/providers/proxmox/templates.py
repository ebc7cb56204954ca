"""What machines can be made of: machines and containers that are templates, and OS templates of containers."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from machines.providers.errors import ProviderError
from machines.providers.types import SEVERAL, TemplateInfo

from . import machines
from .answers import Forbidden, NotThere
from .client import Client
from .configs import size_mib, storage_of
from .guests import Guest, Guests
from .making import Maker
from .resources import GuestLine, Resources, number

DESCRIPTION_CHARACTERS = 500
LOOK_SECONDS = 3.0  # at one storage or template: there may be many, and some that hang


class Lister:
    def __init__(self, client: Client, guests: Guests, maker: Maker, config: Mapping[str, Any]) -> None:
        self._client, self._guests, self._maker = client, guests, maker
        self._nodes = {str(node) for node in config.get("nodes") or ()}
        self._copies = {ref: [str(copy) for copy in numbers] for ref, numbers in (config.get("template_copies") or {}).items()}
        self._unsure: set[str] = set()  # numbers of templates, and storages, that could not be asked for in the last listing

    def listed(self) -> list[TemplateInfo]:
        """Those that answer. Raises Unreachable, AuthFailed."""
        found = self._guests.resources()
        self._unsure = set()
        with self._client.within(LOOK_SECONDS):
            return [*self._of_guests(found), *self._os_templates(found)]

    def may_be_there(self, ref: str) -> bool:
        """Of one that was not listed: what it is on did not answer."""
        return ref.partition(":")[0] in self._unsure

    def _of_guests(self, found: Resources) -> Iterator[TemplateInfo]:
        copies = {copy for numbers in self._copies.values() for copy in numbers}
        silent = {name for name, node in found.nodes.items() if not node.online}
        for line in found.guests.values():
            if line.template is False or str(line.vmid) in copies:
                continue
            if line.template is None or line.node in silent:
                self._unsure.add(str(line.vmid))
                continue
            try:  # one on another node will do where its storage is shared: it is listed wherever it is
                yield self._of_guest(line, found)
            except (NotThere, Forbidden):
                continue  # gone meanwhile, or not for us
            except ProviderError:
                silent.add(line.node)
                self._unsure.add(str(line.vmid))

    def _of_guest(self, line: GuestLine, found: Resources) -> TemplateInfo:
        template = self._guests.template(line.vmid, line.kind, line.node)
        config = template.config
        size = size_mib(config.get(template.disk, "")) if template.disk else None
        nodes, storages = self._places(template, found)
        return TemplateInfo(
            ref=str(line.vmid),
            name=line.name or str(config.get("hostname" if template.is_container else "name") or line.vmid),
            disk_gib=(size or 0) / 1024,
            cores=(number(config.get("cores")) or 1) * (number(config.get("sockets")) or 1),
            memory_mib=number(str(config.get("memory", "")).rpartition("=")[2]) or 512,  # "1024" or "current=1024"; as Proxmox VE without a word
            description=str(config.get("description") or "")[:DESCRIPTION_CHARACTERS],
            username=str(config.get("ciuser") or ""),
            kind="container" if template.is_container else "vm",
            seeded=not template.is_container and machines.has_cloud_init(config),
            node=SEVERAL.join(nodes),
            storage=SEVERAL.join(storages),
        )

    def _places(self, template: Guest, found: Resources) -> tuple[list[str], list[str]]:
        """The nodes that clone this template or a copy of it, and the storages they do it on. A storage that is not
        shared is another one on each node."""
        nodes, storages = set(), set()
        for one in (template, *self._copies_of(template, found)):
            nodes.add(one.node)
            if one.disk and (storage := storage_of(one.config[one.disk])):
                storages.add(storage if found.shared(storage) else f"{one.node}/{storage}")
        return sorted(nodes), sorted(storages)

    def _copies_of(self, template: Guest, found: Resources) -> Iterator[Guest]:
        for copy in self._copies.get(str(template.vmid), ()):
            line = found.guests.get(int(copy)) if copy.isdecimal() else None
            if line is not None and found.online(line.node):
                with suppress(ProviderError):
                    yield self._guests.template(line.vmid, line.kind, line.node)

    def _os_templates(self, found: Resources) -> list[TemplateInfo]:
        volumes: dict[str, None] = {}
        for name in sorted({line.name for line in found.storages if "vztmpl" in line.content}):
            lines = [line for line in found.storages if line.name == name and (not self._nodes or line.node in self._nodes)]
            answering = [line for line in lines if line.active and found.online(line.node)]
            if not answering or (len(answering) < len(lines) and not found.shared(name)):
                self._unsure.add(name)
            for line in answering[:1] if found.shared(name) else answering:
                try:
                    volumes |= dict.fromkeys(self._maker.os_templates(line.node, name))
                except Forbidden:
                    continue
                except ProviderError:
                    self._unsure.add(name)
        return [
            TemplateInfo(ref=volume, name=volume.rpartition("/")[2].partition(".tar")[0], username="root", kind="container", seeded=True) for volume in volumes
        ]
