"""The simulator keeps the contract of every provider."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from machines.providers.base import Provider
from machines.providers.simulator import SimulatorControl
from tests.machines.providers.contract import ProviderContract
from tests.machines.providers.lab import BehindOurBack

from .running import Simulated, simulator


class TestSimulator(ProviderContract):
    boot_seconds: ClassVar[float] = 10.0
    task_seconds: ClassVar[float] = 10.0

    @pytest.fixture(scope="class")
    @classmethod
    def simulated(cls) -> Iterator[Simulated]:
        with simulator() as running:
            yield running

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls, simulated: Simulated) -> Callable[[], Provider]:
        return simulated.provider

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        return "debian-12"

    @pytest.fixture(scope="class")
    @classmethod
    def behind_our_back(cls, simulated: Simulated) -> BehindOurBack:
        control: SimulatorControl = simulated.control
        return control
