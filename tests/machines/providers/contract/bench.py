"""What all parts of the contract stand on: a cluster to work at and machines on it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from machines.providers.base import Provider
from tests.machines.providers.lab import BehindOurBack, Guest, Lab, Made


class Bench:
    boot_seconds: ClassVar[float] = 120.0  # how long a guest may take from power-on to its SSH banner
    task_seconds: ClassVar[float] = 60.0  # how long a task of the hypervisor may take
    memory_mib: ClassVar[int] = 128
    larger_gib: ClassVar[int] = 2  # a disk larger than the template's
    guests_are_real: ClassVar[bool] = True  # they boot and answer SSH; otherwise what only a guest shows is skipped

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls) -> Callable[[], Provider]:
        """Makes a new, independent instance of the provider."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def behind_our_back(cls) -> BehindOurBack:
        """What others can do to machines. Providers that offer no such way skip these tests."""
        pytest.skip("nothing can be done behind this provider's back")

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, connect: Callable[[], Provider], template: str) -> Iterator[Lab]:
        lab = Lab(connect, template, memory_mib=cls.memory_mib, task_seconds=cls.task_seconds, boot_seconds=cls.boot_seconds)
        yield lab
        lab.close()

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, lab: Lab) -> Provider:
        return lab.provider

    @pytest.fixture
    def made(self, lab: Lab) -> Iterator[Made]:
        """A machine of our own that is off and was never on."""
        made = lab.create()
        yield made
        lab.destroy(made)

    @pytest.fixture
    def stranger(self, lab: Lab) -> Iterator[Made]:
        """A machine at a ref of ours that carries the label of another portal."""
        made = lab.create(replace(lab.new().identity, portal="another-portal"))
        yield made
        lab.destroy(made)

    @pytest.fixture(scope="class")
    @classmethod
    def shared_machine(cls, lab: Lab) -> Made:
        return lab.create()

    @pytest.fixture
    def booted(self, lab: Lab, shared_machine: Made) -> Guest:
        if not self.guests_are_real:
            pytest.skip("what this provider is tested against has no guests that boot")
        return lab.boot(shared_machine)
