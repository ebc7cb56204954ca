"""What all parts of the provider share: the connection, the settings, whose a machine is, its definition."""

import hashlib
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import libvirt

from machines.providers.base import Provider
from machines.providers.errors import ForeignMachine, InvalidSpec, OutcomeUnknown, ProviderError, TaskFailed, Unreachable
from machines.providers.types import MachineIdentity, MachineSpec, ProviderSettings, TaskRef

from . import domain, domains, kvm, seed
from .connection import Connection
from .domain import Definition, Label
from .errors_map import translate
from .storage import Storage, disk_name, seed_name

PORTS = range(20000, 30000)  # of the host, for SSH; below the range the kernel hands out
URI_PARAMETERS = {"socket", "mode", "keyfile", "known_hosts", "known_hosts_verify", "no_tty", "no_verify", "pkipath", "sshauth", "tls_priority"}
PROMPT_SECONDS = 5.0  # what takes longer than this is left to itself and polled


class LibvirtCluster(Provider):
    kind = "libvirt"

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        config = settings.config
        if not config.get("uri"):
            raise InvalidSpec("config has no uri", message="The cluster's settings do not name libvirt's address.")
        self._uri = str(config["uri"])
        if _may_run_programs(self._uri):
            raise InvalidSpec(f"an address that is not taken: {self._uri}", message="The cluster's address has parts that the portal does not take.")
        self._pool = str(config.get("pool", "labportal"))
        self._pool_path = str(config.get("pool_path", ""))
        self._template_pool = str(config.get("template_pool", ""))
        self._network = str(config.get("network", domain.USER_NETWORK))
        self._vnc_listen = str(config.get("vnc_listen", "127.0.0.1"))
        self._connection = Connection(self._uri)
        self._accelerated: bool | None = None

    def close(self) -> None:
        self._connection.close()

    def _storage(self, raw: Any) -> Storage:
        return Storage(raw, self._pool, self._template_pool, self._pool_path)

    # -- whose it is -----------------------------------------------------------------------

    def _ours(self, raw: Any, identity: MachineIdentity, ref: str) -> tuple[Any, Label]:
        """The domain, once its label is seen to be ours. Raises TaskFailed, ForeignMachine."""
        found = self._ours_or_none(raw, identity, ref)
        if found is None:
            raise TaskFailed(f"no domain {ref}", message="The cluster has no such machine any more.")
        return found

    def _ours_or_none(self, raw: Any, identity: MachineIdentity, ref: str) -> tuple[Any, Label] | None:
        """None where there is no such domain. Raises ForeignMachine."""
        dom = domains.lookup(raw, ref)
        if dom is None:
            return None
        label = domains.label_of(dom)
        if label is None or not label.belongs_to(identity):
            raise ForeignMachine(f"domain {ref} is not ours")
        return dom, label

    # -- its definition --------------------------------------------------------------------

    def _kvm(self, raw: Any) -> bool:
        if self._accelerated is None:
            wanted = self.settings.config.get("accel", "")
            if wanted:
                self._accelerated = wanted == "kvm"
            elif _is_local(self._uri):
                # libvirt advertises KVM by the presence of /dev/kvm; only a guest that runs proves it.
                self._accelerated = kvm.usable()[0]
            else:
                self._accelerated = "<domain type='kvm'" in raw.getCapabilities()
        return self._accelerated

    def _port(self) -> int:
        return secrets.choice(PORTS) if self._network in domain.FORWARDING_NETWORKS else 0

    def _define(self, raw: Any, ref: str, label: Label, spec: MachineSpec) -> Any:
        """Give the machine this label and the sizes of `spec`. Its disks are where they always are."""
        storage = self._storage(raw)
        definition = Definition(
            ref=ref,
            label=label,
            cores=spec.cores,
            memory_mib=spec.memory_mib,
            disk=storage.path_of(disk_name(ref)),
            seed_disk=storage.path_of(seed_name(ref)) if label.seed else "",
            accelerated=self._kvm(raw),
            network=self._network,
            vnc_listen=self._vnc_listen,
        )
        return raw.defineXML(definition.to_xml())

    def _relabel(self, raw: Any, dom: Any, label: Label) -> Any:
        """The same machine with another label, forwarded port included."""
        defined = domain.parse(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        sizes = MachineSpec(template=label.template, cores=defined.cores, memory_mib=defined.memory_mib)
        return self._define(raw, dom.UUIDString(), label, sizes)

    # -- what takes long -------------------------------------------------------------------

    def _in_background(self, work: Callable[[Any], object], task: TaskRef | None = None, *, wait: float | None = PROMPT_SECONDS) -> TaskRef | None:
        """Do what may take long in a thread with a connection of its own. None when it is done
        within `wait` seconds (None: however long), else `task`. Raises what it failed with by then."""
        failed: list[ProviderError] = []

        def run() -> None:
            try:
                raw = libvirt.open(self._uri)
                try:
                    work(raw)
                finally:
                    raw.close()
            except libvirt.libvirtError as error:
                failed.append(translate(error))
            except ProviderError as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="libvirt-long", daemon=True)
        thread.start()
        thread.join(wait)
        if failed:
            raise OutcomeUnknown(failed[0].detail) if isinstance(failed[0], Unreachable) else failed[0]
        return task if thread.is_alive() else None


def require_sizes(spec: MachineSpec) -> None:
    """Raises InvalidSpec."""
    if spec.cores < 1 or spec.memory_mib < 1 or (spec.disk_gib is not None and spec.disk_gib < 1):
        raise InvalidSpec(f"{spec.cores} cores, {spec.memory_mib} MiB, {spec.disk_gib} GiB")


def seed_image(identity: MachineIdentity, spec: MachineSpec) -> tuple[bytes, str]:
    """The seed's image and its digest. The instance id follows the content, so that a guest that
    is given another one reads it again."""
    if spec.seed is None:
        return b"", ""
    digest = hashlib.sha256(repr(spec.seed).encode()).hexdigest()[:16]
    return seed.iso(spec.seed, f"{identity.key}-{digest}"), digest


def _may_run_programs(uri: str) -> bool:
    """libvirt starts the program that `command` names, here and as ourselves; who may write down a
    cluster's address may not do that for it."""
    parts = urlsplit(uri)
    names = {name.lower() for name, _ in parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True)}
    return parts.scheme.endswith("+ext") or not names <= URI_PARAMETERS


def _is_local(uri: str) -> bool:
    host = uri.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1].split(":", 1)[0]
    return host in ("", "localhost", "127.0.0.1", socket.gethostname())
