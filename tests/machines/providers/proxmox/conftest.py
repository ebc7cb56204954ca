"""One fake cluster for a module of tests, set right again after each."""

import pytest

from machines.providers.proxmox import client as client_module
from machines.providers.proxmox import provider as provider_module
from machines.providers.proxmox.breakers import Breakers
from machines.providers.proxmox.client import Client
from machines.providers.proxmox.placement import Ledger
from tests.proxmox.running import running_cluster

from .desk import Desk


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def nothing_happened_before(monkeypatch):
    """What one test broke does not keep the next one waiting, and what it made fills no node."""
    monkeypatch.setattr(client_module, "shared_breakers", Breakers())
    monkeypatch.setattr(provider_module, "shared_ledger", Ledger())


@pytest.fixture
def connect(cluster):
    """A client of the cluster; what is asked for goes into its settings. Each has breakers of its own."""
    made = []

    def connect(secret=None, *, breakers=None, **config):
        settings = cluster.config(**config)
        secret = secret or (cluster.token_secret if settings["token_name"] else cluster.password)
        made.append(Client(settings, secret, breakers=breakers or Breakers()))
        return made[-1]

    yield connect
    for client in made:
        client.close()
    control = cluster.control
    control.clear_faults()
    control.quorum(True)
    control.certificate("first")
    control.settings(version="9.0.10", tfa=False)
    control.reset_calls()


@pytest.fixture
def down(cluster):
    """Closes the port of an endpoint until the test ends."""
    closed = []

    def down(number):
        cluster.control.endpoint(number, up=False)
        closed.append(number)

    yield down
    for number in closed:
        cluster.control.endpoint(number, up=True)


@pytest.fixture
def desk(cluster):
    """A provider, and machines made with it."""
    cluster.control.settings(lag=0)
    yield Desk(cluster)
    control = cluster.control
    control.clear_faults()
    control.settings(lag=10, clones_per_storage=None, storage_lock_wait=10, durations={"qmclone": 2, "vzclone": 3, "qmstart": 1}, version="9.0.10")
