"""The provider for Proxmox VE keeps the contract of every provider, as far as a fake cluster without guests can show it."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from machines.providers.base import Provider
from machines.providers.proxmox import ProxmoxProvider
from machines.providers.types import ProviderSettings
from tests.machines.providers.contract import ProviderContract
from tests.machines.providers.lab import BehindOurBack
from tests.proxmox.running import RunningCluster, running_cluster

pytest.importorskip("fakepve")

PORTAL = "5b6bdb1c-6c0e-4a5c-9a52-5d3e2f1b7c11"


class WithTheClustersOwnTools:
    def __init__(self, cluster: RunningCluster) -> None:
        self._control = cluster.control

    def plant(self, ref: str) -> None:
        self._control.add_vm(int(ref), "somebody-elses", pool="labs")

    def power_off(self, ref: str) -> None:
        self._control.change_guest(int(ref), status="stopped")

    def delete(self, ref: str) -> None:
        self._control.remove(int(ref))


class _Contract(ProviderContract):
    boot_seconds: ClassVar[float] = 10.0
    task_seconds: ClassVar[float] = 10.0
    larger_gib: ClassVar[int] = 10
    guests_are_real: ClassVar[bool] = False

    @pytest.fixture(scope="class")
    @classmethod
    def cluster(cls) -> Iterator[RunningCluster]:
        with running_cluster() as cluster:
            cluster.control.settings(lag=0)  # test_inventory shows what is late
            yield cluster

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls, cluster: RunningCluster) -> Callable[[], Provider]:
        return lambda: ProxmoxProvider(ProviderSettings("pve", PORTAL, cluster.config(), cluster.token_secret))

    @pytest.fixture(scope="class")
    @classmethod
    def behind_our_back(cls, cluster: RunningCluster) -> BehindOurBack:
        return WithTheClustersOwnTools(cluster)


class TestMachines(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        return "9000"


class TestContainers(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        return "9100"


class TestContainersFromAnOsTemplate(_Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        return "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
