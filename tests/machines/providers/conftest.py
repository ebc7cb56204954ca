"""Fixtures of the provider tests: `simulated`, a quick simulator of the test's own."""

from collections.abc import Iterator

import pytest

from .simulator.running import Simulated, simulator

pytest.register_assert_rewrite("tests.machines.providers.contract", "tests.machines.providers.lab")


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    with simulator() as running:
        yield running
