"""A cluster of the fake kind and what drives the engine against it."""

import contextlib
from collections.abc import Callable

import pytest

from machines.models import Cluster, Operation
from machines.providers import registry
from machines.providers.errors import ProviderError
from machines.services import executor, gateway, leases, sweep, waiting
from tests.factories import make_cluster, make_template
from tests.machines.providers import fakes


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
