"""One fake cluster for a module of tests."""

import itertools

import pytest

from .api import Api
from .running import running_cluster

numbers = itertools.count(100100)


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def api(cluster):
    """With the portal's token. Afterwards nothing is out of order any more."""
    with Api(cluster) as api:
        yield api
    cluster.control.clear_faults()
    cluster.control.settings(lag=10, clones_per_storage=None, storage_lock_wait=10, durations={"qmclone": 2, "vzclone": 3, "qmstart": 1})


@pytest.fixture
def root(cluster):
    """As root@pam, with a ticket."""
    with Api(cluster, {}) as api:
        api.sign_in("root@pam", "secret")
        yield api


@pytest.fixture
def number():
    """Numbers of guests nobody has used."""
    return lambda: next(numbers)


@pytest.fixture
def made(api, number):
    """A clone of the first template."""
    vmid = number()
    assert api.clone(vmid, description="a machine\nlabportal:here:key") == "OK"
    return vmid
