"""Machines for the simulator's own tests."""

import time
import uuid

from machines.providers.simulator import SimulatorProvider
from machines.providers.types import MachineIdentity, MachineSpec, Power, Seed, TaskRef, TaskState, TaskStatus
from tests.machines.providers.lab import until

PASSWORD = "opens-the-door"


def identity(name: str = "web-07", portal: str = "7e57ab1e-0000-4000-8000-000000000000") -> MachineIdentity:
    return MachineIdentity(key=str(uuid.uuid4()), name=name, portal=portal)


def spec(**changes: object) -> MachineSpec:
    seed = Seed(hostname="web-07", username="student", password=PASSWORD)
    return MachineSpec(**{"template": "debian-12", "cores": 1, "memory_mib": 512, "seed": seed, **changes})


def settle(provider: SimulatorProvider, task: TaskRef | None) -> TaskStatus | None:
    """How the task ended; None where there was none."""
    if task is None:
        return None
    until(lambda: provider.poll([task])[task].state is not TaskState.RUNNING, 10, "the task ends")
    return provider.poll([task])[task]


def running(provider: SimulatorProvider, name: str = "web-07") -> MachineIdentity:
    """A machine that is on and booted; its key is its ref."""
    made = identity(name)
    settle(provider, provider.begin_create(made, made.key, spec()))
    settle(provider, provider.begin_start(made, made.key))
    assert provider.find(made, made.key).power is Power.ON
    until(lambda: {load.ref: load for load in provider.metrics()}[made.key].cpu < 0.5, 10, "the guest has booted")
    return made


def seconds_since(began: float) -> float:
    return time.monotonic() - began
