"""libvirt keeps the contract of every provider, with real QEMU guests."""

from collections.abc import Callable

import libvirt
import pytest

from machines.providers.base import Provider
from tests.guests.hypervisor import TEMPLATE, Hypervisor
from tests.machines.providers.contract import ProviderContract
from tests.machines.providers.lab import BehindOurBack

STRANGER = "<domain type='qemu'><name>stranger-{ref}</name><uuid>{ref}</uuid><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"


class Virsh:
    """Somebody at the hypervisor's own command line."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._raw = hypervisor.connect()

    def plant(self, ref: str) -> None:
        self._raw.defineXML(STRANGER.format(ref=ref))

    def power_off(self, ref: str) -> None:
        self._raw.lookupByUUIDString(ref).destroy()

    def delete(self, ref: str) -> None:
        machine = self._raw.lookupByUUIDString(ref)
        if machine.isActive():
            machine.destroy()
        machine.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)


@pytest.mark.guest
class TestLibvirt(ProviderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls, hypervisor: Hypervisor) -> Callable[[], Provider]:
        return hypervisor.provider

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        return TEMPLATE

    @pytest.fixture(scope="class")
    @classmethod
    def behind_our_back(cls, hypervisor: Hypervisor) -> BehindOurBack:
        return Virsh(hypervisor)
