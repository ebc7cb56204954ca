"""What goes into a provider and what comes out: frozen, plain, no model and no setting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import ProviderError

SEVERAL = " + "  # between names of places


class Power(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    BUILDING = "building"  # the creating call is still at work
    READY = "ready"
    BROKEN = "broken"  # half made: may be destroyed and made again


class Presence(StrEnum):
    ABSENT = "absent"
    OURS = "ours"  # the label carries our key and our portal id
    FOREIGN = "foreign"  # something else sits at this ref; never to be touched


class StopMode(StrEnum):
    GRACEFUL = "graceful"  # press the power button, the guest shuts down when it likes
    FORCE = "force"  # pull the plug


class ConsoleKind(StrEnum):
    SCREEN = "screen"  # VNC
    TERMINAL = "terminal"  # text: serial line of the hypervisor


class TaskState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # the hypervisor does not know the task (any more): observe the machine


@dataclass(frozen=True, slots=True)
class MachineIdentity:
    """Who a machine is. Chosen by the portal and stored before the call that makes it.

    `key` is unique for ever, `portal` is the id of this installation, so that a staging
    portal never takes a production machine for its own. `name` is for people.
    """

    key: str
    name: str
    portal: str


@dataclass(frozen=True, slots=True)
class Seed:
    """What the guest is told at its first boot (NoCloud)."""

    hostname: str
    username: str
    password: str
    ssh_keys: tuple[str, ...] = ()
    locale: str = "en_US.UTF-8"
    keyboard: str = "us"


VMIDS = (100_000, 199_999)  # first and last number of machines where a cluster numbers them and says no others


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """How a machine is to be made. Sizes: cores, MiB, GiB (None: as the template)."""

    template: str
    cores: int
    memory_mib: int
    disk_gib: int | None = None
    linked: bool = True
    seed: Seed | None = None


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A piece of work the hypervisor does on its own. Stored in the operation's checkpoint."""

    id: str
    kind: str = ""
    node: str = ""
    disks: tuple[str, ...] = ()  # that it removes

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "kind": self.kind, "node": self.node, **({"disks": list(self.disks)} if self.disks else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TaskRef":
        return cls(id=data["id"], kind=data.get("kind", ""), node=data.get("node", ""), disks=tuple(data.get("disks", ())))


@dataclass(frozen=True, slots=True)
class TaskStatus:
    state: TaskState
    progress: float | None = None  # 0 to 1, None when the hypervisor does not say
    error: ProviderError | None = None  # with FAILED
    left: tuple[str, ...] = ()  # disks it was to remove and that may still be on their storage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place where a service of the guest may answer.

    `source` says who claims so: `forward` is made by the provider itself and trusted;
    `lease`, `agent`, `container` and `arp` come from the guest's side and are hostile until checked.
    `mac` is the hardware address that the hypervisor gave the guest's first card (source `config`), by
    which the portal finds it in its own network; nobody connects to that.
    """

    service: str  # "ssh", "rdp", "guest" for a bare address, or "mac"
    host: str
    port: int = 0
    source: str = "agent"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is at a ref right now."""

    presence: Presence
    stage: Stage | None = None
    power: Power = Power.UNKNOWN
    node: str = ""
    detail: str = ""
    snapshots: bool = True  # its storage can keep them; where not, reverting makes it anew


@dataclass(frozen=True, slots=True)
class ObservedMachine:
    """One line of the inventory. `identity` is None where there is no label of any portal."""

    ref: str
    name: str
    power: Power
    stage: Stage = Stage.READY
    identity: MachineIdentity | None = None
    node: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    kind: str = "vm"  # or "container"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    name: str
    online: bool
    cores: int = 0
    memory_total_mib: int = 0
    memory_free_mib: int = 0


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """Of all storages together that machines may be made on."""

    free_gib: int
    total_gib: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything a cluster has, from one pass of few calls, machines of others included.

    `whole` False: some machines of ours may not be recognised yet, so that nothing is concluded
    from what is not in it. `lag`: what it says of power may be so many seconds old.
    """

    machines: tuple[ObservedMachine, ...]
    nodes: tuple[NodeInfo, ...] = ()
    whole: bool = True
    lag: float = 0.0
    disk: DiskInfo | None = None  # None: not told


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    ref: str
    name: str
    disk_gib: float = 0
    description: str = ""
    username: str = ""  # the account the template expects, when it says so
    kind: str = "vm"  # or "container"
    seeded: bool = True  # user, password and key can be set in what is made of it
    node: str = ""  # that has to do the cloning; joined by SEVERAL where it may be one of some
    storage: str = ""  # of its disk; likewise
    cores: int | None = None  # what it is set to itself, where it says so
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    name: str
    created: float = 0.0  # seconds since the epoch
    with_memory: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """Load of one machine. `cpu` is a share of its cores, 0 to 1."""

    ref: str
    cpu: float | None = None
    memory_mib: float | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ConsoleTarget:
    """Where the relay connects to. Never leaves the server.

    Either `host` and `port`, or `path` (a Unix socket), or `url` (a WebSocket). With a URL: `headers`
    sign in there; its certificate must be one that `ca` (PEM) signed, or the one with `fingerprint`
    (SHA-256 in hex), or else one the system trusts. `greeting` is what a terminal is sent first.
    """

    kind: ConsoleKind
    host: str = ""
    port: int = 0
    path: str = ""
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    fingerprint: str = ""
    greeting: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `Provider.check()`: what was looked at, whether it is well, in words."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do beyond the verbs. False means the call raises Unsupported."""

    snapshots: bool = False
    resize: bool = False
    endpoints: bool = False  # guest addresses beyond what the inventory has
    guest_password: bool = False
    screenshot: bool = False
    metrics: bool = False
    templates: bool = False  # list them
    import_template: bool = False
    screen: bool = False  # a graphical console
    terminal: bool = False  # a text console of the hypervisor's own
    full_clone: bool = False
    events: bool = False  # tells of changes by itself, see Provider.wait_for_change
    simulated: bool = False
    adoption: bool = False  # label what was there before
    numbered: bool = False  # refs are numbers out of a range that is set for the cluster
    inventory_seconds: float = 0.0  # between two inventories at least, where one costs the cluster much
    poll_seconds: float = 0.0  # between two polls of tasks that go on for long, where one costs the cluster much


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """All a provider gets to know of its cluster row."""

    cluster: str
    portal: str
    config: Mapping[str, Any]
    secret: str = field(default="", repr=False)
    terminal_password: str = field(default="", repr=False)  # where text consoles do not take the secret
