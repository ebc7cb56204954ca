"""What the tests of the provider work at: a cluster, machines on it, and tasks followed to their end."""

import itertools
import uuid
from dataclasses import dataclass, field
from typing import Any

from machines.providers.proxmox import ProxmoxProvider
from machines.providers.types import MachineIdentity, MachineSpec, Power, Presence, ProviderSettings, Seed, Sighting, TaskRef, TaskState, TaskStatus
from tests.machines.providers.lab import until
from tests.proxmox.running import RunningCluster

PORTAL = "5b6bdb1c-6c0e-4a5c-9a52-5d3e2f1b7c11"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK/2zMDwL//e9uUhNtA4JBj5HuMRO6ZFU6C7D/9iyIDz someone+else@example.org"
numbers = itertools.count(160_000)
SEED = Seed("lab", "student", "a-password", (KEY,))


@dataclass
class Desk:
    cluster: RunningCluster
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.provider = self.another()

    def another(self, **config: Any) -> ProxmoxProvider:
        """An instance that remembers nothing."""
        given = self.cluster.config(**{**self.config, **config})
        return ProxmoxProvider(ProviderSettings("pve", PORTAL, given, self.cluster.token_secret))

    @property
    def control(self) -> Any:
        return self.cluster.control

    def new(self, template: str = "9000", **changes: Any) -> "Machine":
        key = str(uuid.uuid4())
        spec = MachineSpec(template=template, cores=2, memory_mib=512, seed=SEED)
        spec = MachineSpec(**{**{name: getattr(spec, name) for name in spec.__slots__}, **changes})
        return Machine(self, MachineIdentity(key, f"lab-{key[:4]}", PORTAL), str(next(numbers)), spec)

    def made(self, template: str = "9000", **changes: Any) -> "Machine":
        machine = self.new(template, **changes)
        self.settle(machine.create())
        machine.configure()
        return machine

    def status(self, task: TaskRef) -> TaskStatus:
        """Of a task that has ended."""

        def ended() -> TaskStatus | None:
            status = self.provider.poll([task])[task]
            return None if status.state is TaskState.RUNNING else status

        return until(ended, 20, f"{task} ends")

    def settle(self, task: TaskRef | None) -> None:
        if task is None:
            return
        status = self.status(task)
        if status.error:
            raise status.error
        assert status.state is TaskState.SUCCEEDED


@dataclass
class Machine:
    desk: Desk
    identity: MachineIdentity
    ref: str
    spec: MachineSpec

    @property
    def place(self) -> tuple[MachineIdentity, str]:
        return self.identity, self.ref

    @property
    def number(self) -> int:
        return int(self.ref)

    def create(self) -> TaskRef | None:
        return self.desk.provider.begin_create(*self.place, self.spec)

    def configure(self) -> int:
        """Returns how many tasks it took."""
        for count in range(5):
            task = self.desk.provider.ensure_configured(*self.place, self.spec)
            if task is None:
                return count
            self.desk.settle(task)
        raise AssertionError("it is never configured")

    def start(self) -> None:
        self.desk.settle(self.desk.provider.begin_start(*self.place))
        assert self.find().power is Power.ON

    def remake(self) -> None:
        """Revert it where nothing was kept of its beginning."""
        self.desk.settle(self.desk.provider.begin_revert(*self.place, self.spec))
        assert self.find().presence is Presence.ABSENT
        self.desk.settle(self.create())

    def find(self) -> Sighting:
        return self.desk.provider.find(*self.place)

    def truth(self) -> dict[str, Any]:
        """As the cluster has it, nothing late and nothing masked."""
        found: dict[str, Any] = self.desk.control.guest(self.number)
        return found

    def is_there(self) -> bool:
        return any(guest["vmid"] == self.number for guest in self.desk.control.guests())
