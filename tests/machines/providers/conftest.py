"""Fixtures of the provider tests: `simulated`, a quick simulator of the test's own."""

from collections.abc import Iterator

import pytest

from .simulator.running import Simulated, simulator


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    with simulator() as running:
        yield running
