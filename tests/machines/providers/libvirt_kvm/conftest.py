"""Fixtures with real guests: one daemon for the whole run."""

from collections.abc import Iterator

import pytest

pytest.importorskip("libvirt")

from tests.guests.hypervisor import Hypervisor, running_hypervisor


@pytest.fixture(scope="session")
def hypervisor() -> Iterator[Hypervisor]:
    with running_hypervisor() as running:
        yield running
