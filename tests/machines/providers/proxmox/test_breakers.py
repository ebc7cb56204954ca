"""Endpoints that failed are left alone, and tried again by one caller at a time."""

import pytest

from machines.providers.errors import Unreachable
from machines.providers.proxmox.breakers import FORGIVEN, LONGEST_PAUSE_SECONDS, PROBE_SECONDS, Breakers

WHY = Unreachable("refused")


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def breakers(clock):
    return Breakers(clock=lambda: clock[0])


def test_one_failure_to_connect_is_enough(breakers):
    assert breakers.allows("a")
    breakers.failed("a", WHY, certain=True)
    assert not breakers.allows("a")
    assert breakers.allows("b")
    assert breakers.why("a") is WHY


def test_a_few_silences_are_forgiven(breakers):
    for _ in range(FORGIVEN):
        breakers.failed("a", WHY, certain=False)
        assert breakers.allows("a")
    breakers.failed("a", WHY, certain=False)
    assert not breakers.allows("a")


def test_an_answer_between_silences_starts_the_count_anew(breakers):
    for _ in range(3 * FORGIVEN):
        breakers.failed("a", WHY, certain=False)
        breakers.answered("a")
    assert breakers.allows("a")


def test_pauses_grow_to_a_limit(breakers, clock):
    pauses = []
    for _ in range(9):
        breakers.failed("a", WHY, certain=True)
        began = clock[0]
        while not breakers.allows("a"):
            clock[0] += 0.5
        pauses.append(clock[0] - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60] and pauses[-1] == LONGEST_PAUSE_SECONDS


def test_one_caller_probes_and_the_others_wait_for_what_it_finds(breakers, clock):
    breakers.failed("a", WHY, certain=True)
    clock[0] += 2
    assert breakers.allows("a")
    assert not breakers.allows("a")
    breakers.answered("a")
    assert breakers.allows("a") and breakers.allows("a")


def test_a_probe_that_cannot_tell_leaves_it_to_the_next(breakers, clock):
    breakers.failed("a", WHY, certain=True)
    clock[0] += 2
    assert breakers.allows("a")
    breakers.left("a")
    assert breakers.allows("a")


def test_a_probe_that_died_is_replaced(breakers, clock):
    breakers.failed("a", WHY, certain=True)
    clock[0] += 2
    assert breakers.allows("a")
    clock[0] += PROBE_SECONDS
    assert breakers.allows("a")
