"""What can be had from a running machine: addresses, screen, load, a new password."""

import contextlib
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import libvirt

from machines.providers.errors import TaskFailed, Unsupported
from machines.providers.types import ConsoleKind, ConsoleTarget, Endpoint, MachineIdentity, Metrics, Power, ProviderSettings

from . import domain, domains
from .cluster import LibvirtCluster
from .domain import Label

VNC_SECONDS = 30  # a console password opens for so long; an open session goes on
_SOURCES = ((libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, "lease"), (libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, "agent"))


class LibvirtGuests(LibvirtCluster):
    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._cpu_times: dict[str, tuple[float, int]] = {}  # by ref: when, nanoseconds used until then

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        def look(raw: Any) -> tuple[Endpoint, ...]:
            dom, label = self._ours(raw, identity, ref)
            if domains.power_of(dom) is not Power.ON:
                return ()
            found = list(forwards(label))
            dom.agentSetResponseTimeout(domains.AGENT_SECONDS, 0)
            for source, name in _SOURCES:
                with contextlib.suppress(libvirt.libvirtError):  # this source knows nothing
                    for interface in dom.interfaceAddresses(source).values():
                        for address in interface["addrs"] or []:
                            found.append(Endpoint("guest", str(address["addr"]), source=name))
            return tuple(found)

        return self._connection.call(look)

    def set_guest_password(self, identity: MachineIdentity, ref: str, username: str, password: str) -> None:
        def tell(raw: Any) -> None:
            dom, _label = self._ours(raw, identity, ref)
            domains.require_on(dom)
            dom.agentSetResponseTimeout(domains.AGENT_SECONDS, 0)
            dom.setUserPassword(username, password, 0)

        self._connection.call(tell, changes=True)

    def screenshot(self, identity: MachineIdentity, ref: str) -> bytes:
        def take(raw: Any) -> bytes:
            dom, _label = self._ours(raw, identity, ref)
            domains.require_on(dom)
            stream = raw.newStream(0)
            if dom.screenshot(stream, 0, 0) != "image/png":
                stream.abort()
                raise Unsupported("this QEMU takes no pictures as PNG")
            picture = bytearray()
            while piece := stream.recv(262144):
                picture += piece
            stream.finish()
            return bytes(picture)

        return self._connection.call(take)

    def metrics(self) -> list[Metrics]:
        def look(raw: Any) -> list[Metrics]:
            # The bulk statistics wait for every QEMU, a hung one included; info() asks none.
            found, times = [], {}
            for dom in raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                ref, now = dom.UUIDString(), time.monotonic()
                try:
                    _state, _most, memory_kib, cores, cpu_time = dom.info()
                except libvirt.libvirtError:
                    continue  # went off meanwhile
                times[ref] = (now, cpu_time)
                before = self._cpu_times.get(ref)
                cpu = None
                if before is not None and cores and now > before[0]:
                    cpu = min(1.0, max(0.0, (cpu_time - before[1]) / 1e9 / (now - before[0]) / cores))
                found.append(Metrics(ref=ref, cpu=cpu, memory_mib=memory_kib / 1024))
            self._cpu_times = times
            return found

        return self._connection.call(look)

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        if kind is not ConsoleKind.SCREEN:
            raise Unsupported("text consoles go through SSH")

        def unlock(raw: Any) -> ConsoleTarget:
            dom, _label = self._ours(raw, identity, ref)
            domains.require_on(dom)
            password = secrets.token_urlsafe(6)  # eight characters: VNC looks at no more
            until = (datetime.now(UTC) + timedelta(seconds=VNC_SECONDS)).strftime("%Y-%m-%dT%H:%M:%S")
            dom.updateDeviceFlags(domain.vnc_password_xml(self._vnc_listen, password, until), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            port = domain.vnc_port(dom.XMLDesc(0))
            if not port:
                raise TaskFailed(f"domain {ref} has no VNC port")
            host = str(self.settings.config.get("console_host", self._vnc_listen))
            return ConsoleTarget(ConsoleKind.SCREEN, host=host, port=port, password=password)

        return self._connection.call(unlock, changes=True)


def forwards(label: Label | None) -> tuple[Endpoint, ...]:
    """The way to the guest's SSH that the machine's own definition makes."""
    return (Endpoint("ssh", "127.0.0.1", label.ssh_port, "forward"),) if label and label.ssh_port else ()
