"""A cluster of the fake kind and what drives the engine against it."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from machines.lifecycle import State
from machines.models import Cluster, Machine, Operation
from machines.providers import registry
from machines.providers.errors import ProviderError
from machines.providers.proxmox import client
from machines.providers.proxmox.breakers import Breakers
from machines.providers.types import Power
from machines.services import catalog, executor, gateway, leases, requests, sweep, waiting
from tests.factories import make_cluster, make_machine, make_template
from tests.machines.providers import fakes
from tests.proxmox.running import running_cluster


@pytest.fixture(autouse=True)
def fake_kind(monkeypatch):
    """Clusters of kind "fake"."""
    monkeypatch.setitem(registry.KINDS, "fake", "tests.machines.providers.fakes:FakeProvider")
    yield
    gateway.close_providers()
    fakes.WORLDS.clear()


@pytest.fixture
def cluster(db) -> Cluster:
    cluster = make_cluster("here", kind="fake")
    make_template(cluster, ref="tiny")
    return cluster


@pytest.fixture
def world(cluster) -> fakes.World:
    return fakes.world(cluster.name)


def claim_one() -> Operation | None:
    """The next operation, by itself."""
    return next(iter(leases.claim(1)), None)


def new_machine(cluster, **fields) -> tuple[Machine, Operation]:
    wanted = {"acting_user": None, "template": cluster.templates.get(), "name": "web-01", "cores": 1, "memory_mib": 256, **fields}
    machine = requests.create_machine(**wanted)
    return machine, machine.operations.get()


def made(cluster, world, state=State.STOPPED, **fields) -> Machine:
    """A machine that the row and the world agree about."""
    machine = make_machine(template=cluster.templates.get(), state=state, **fields)
    identity = fakes.MachineIdentity(str(machine.key), machine.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[machine.ref] = fakes.FakeMachine(identity, power=Power.ON if state == State.RUNNING else Power.OFF)
    return machine


def lines(operation: Operation) -> list[str]:
    return list(operation.events.values_list("text", flat=True))


def look_round(cluster: Cluster) -> None:
    """What the watcher does between two inventories."""
    fakes.world(cluster.name).tick()
    with contextlib.suppress(ProviderError):
        waiting.poll(cluster, gateway.provider_for(cluster))


@pytest.fixture
def carry_on(cluster) -> Callable[..., Operation]:
    """Work and watch until an operation ends, or `rounds` passed."""

    def run(operation: Operation, rounds: int = 20) -> Operation:
        for _ in range(rounds):
            executor.drain()
            operation.refresh_from_db()
            if not operation.is_active:
                break
            look_round(cluster)
            sweep.sweep()
        operation.refresh_from_db()
        operation.machine.refresh_from_db()
        return operation

    return run


@pytest.fixture
def pve():
    """A fake Proxmox VE cluster on which all is done at once."""
    with running_cluster(time_scale=0) as pve:
        yield pve


@pytest.fixture
def row(db, pve, monkeypatch) -> Iterator[Cluster]:
    """The row of `pve`, with its templates; nothing is known yet of which of its endpoints answer."""
    monkeypatch.setattr(client, "shared_breakers", Breakers())
    row = make_cluster("rack", kind="proxmox", config=pve.config(), secret=pve.token_secret)
    catalog.sync_templates(row)
    yield row
    gateway.close_providers()
