"""A simulated machine: what a hypervisor would keep of it, and its disk."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from machines.providers.types import Endpoint, MachineIdentity, MachineSpec, ObservedMachine, Power, Seed, Stage

from .protocol import identity_from_json, seed_from_json


@dataclass(frozen=True)
class Template:
    ref: str
    name: str
    description: str
    system: str  # what the guest calls itself on its screen
    username: str = "student"
    disk_gib: int = 2


TEMPLATES = (
    Template("debian-12", "Debian 12", "Text console, SSH. For first steps with Linux.", "Debian GNU/Linux 12"),
    Template("ubuntu-24.04", "Ubuntu 24.04 LTS", "Server without a desktop.", "Ubuntu 24.04 LTS", disk_gib=4),
    Template("web-server", "Web server", "Debian 12 with nginx and PostgreSQL.", "Debian GNU/Linux 12", disk_gib=8),
    Template("network-lab", "Network lab", "Alpine Linux with routing tools; small and quick.", "Alpine Linux 3.20", disk_gib=1),
)


@dataclass(frozen=True)
class Disk:
    """What the guest keeps over a power-off. Empty until the first boot has read the seed.

    Frozen: whoever writes makes a new one, so a snapshot is just a reference.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    host_key: str = ""  # OpenSSH private key, made at the first boot
    hostname: str = ""
    username: str = ""
    password: str = ""
    ssh_keys: tuple[str, ...] = ()

    def first_boot(self, template: Template, seed: Seed | None) -> "Disk":
        key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        if seed is None:
            return replace(self, host_key=key, hostname=template.ref.replace(".", "-"), username=template.username)
        return replace(self, host_key=key, hostname=seed.hostname, username=seed.username, password=seed.password, ssh_keys=seed.ssh_keys)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Disk":
        return cls(**{**data, "ssh_keys": tuple(data["ssh_keys"])})


@dataclass(frozen=True)
class Snapshot:
    created: float
    disk: Disk


@dataclass
class VirtualMachine:
    """`label` is None for machines of nobody's portal. `boots_until`: epoch seconds at which the
    guest has booted; meaningful while `on`."""

    ref: str
    name: str
    template: str
    label: MachineIdentity | None = None
    node: str = ""
    cores: int = 1
    memory_mib: int = 512
    disk_gib: float = 1
    linked: bool = True
    seed: Seed | None = None
    stage: Stage = Stage.READY
    on: bool = False
    boots_until: float = 0.0
    boot_id: str = ""
    ssh_port: int = 0
    obeys_button: bool = True
    disk: Disk = field(default_factory=Disk)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    version: int = 0  # goes up with every change; not kept

    @property
    def storage_gib(self) -> float:
        """What it takes up on the storage: a linked clone only what it wrote."""
        return 0.1 if self.linked else self.disk_gib

    def belongs_to(self, identity: MachineIdentity) -> bool:
        return self.label is not None and (self.label.key, self.label.portal) == (identity.key, identity.portal)

    def take_form(self, spec: MachineSpec) -> None:
        self.cores, self.memory_mib, self.seed = spec.cores, spec.memory_mib, spec.seed
        if spec.disk_gib is not None:
            self.disk_gib = max(self.disk_gib, spec.disk_gib)

    def observed(self) -> ObservedMachine:
        power = Power.ON if self.on else Power.OFF
        endpoints = (Endpoint("ssh", "127.0.0.1", self.ssh_port, "forward"),) if self.on and self.ssh_port else ()
        return ObservedMachine(self.ref, self.name, power, self.stage, self.label, self.node, endpoints)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "VirtualMachine":
        snapshots = {name: Snapshot(kept["created"], Disk.from_json(kept["disk"])) for name, kept in data["snapshots"].items()}
        return cls(
            **{
                **data,
                "label": identity_from_json(data["label"]),
                "seed": seed_from_json(data["seed"]),
                "stage": Stage(data["stage"]),
                "disk": Disk.from_json(data["disk"]),
                "snapshots": snapshots,
            }
        )
