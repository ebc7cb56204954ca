"""A simulated cluster labels what was there before, and lets it go."""

import uuid

import pytest

from machines.providers.errors import ForeignMachine
from machines.providers.simulator.host import Host
from machines.providers.simulator.world import World
from machines.providers.types import MachineIdentity, Presence


def identity() -> MachineIdentity:
    return MachineIdentity(str(uuid.uuid4()), "web", "our-portal")


def test_labelled_by_one_it_is_nobody_elses() -> None:
    world, first, second = World(Host()), identity(), identity()
    world.plant("old", "payroll", None)
    with pytest.raises(ForeignMachine):
        world.adopt(first, "old", "another name")
    world.adopt(first, "old", "payroll")
    world.adopt(first, "old", "payroll")
    assert world.find(first, "old").presence is Presence.OURS
    for refused in (lambda: world.adopt(second, "old", "payroll"), lambda: world.release(second, "old")):
        with pytest.raises(ForeignMachine):
            refused()
    world.release(first, "old")
    assert world.find(first, "old").presence is Presence.FOREIGN
