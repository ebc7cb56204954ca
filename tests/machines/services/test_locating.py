"""Addresses that no inventory has: asked of the cluster, and believed as far as they go."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Change, Machine
from machines.providers.errors import Unreachable
from machines.providers.types import Endpoint, MachineIdentity, Power
from machines.services import gateway, inventory, locating
from machines.services.refusal import Refused
from machines.services.way_in import way_in
from tests.factories import make_machine
from tests.machines.providers import fakes

pytestmark = pytest.mark.django_db
GUEST = Endpoint("guest", "10.20.0.7", source="lease")


@pytest.fixture
def machine(cluster, world) -> Machine:
    """On for a minute, and looked at since."""
    machine = make_machine(template=cluster.templates.get(), state=State.RUNNING, answering_since=timezone.now())
    Machine.objects.filter(pk=machine.pk).update(state_since=timezone.now() - timedelta(minutes=1))
    identity = MachineIdentity(str(machine.key), machine.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[machine.ref] = fakes.FakeMachine(identity, power=Power.ON, addresses=(GUEST,))
    return Machine.objects.get(pk=machine.pk)


def hosts(machine: Machine) -> list[str]:
    machine.refresh_from_db()
    return [endpoint["host"] for endpoint in machine.endpoints]


def test_an_address_only_the_guest_knows_is_found_told_and_outlives_the_next_inventory(cluster, world, machine):
    assert locating.Locator().look([cluster.pk]) == 1
    assert hosts(machine) == [GUEST.host] and Change.objects.filter(topic=f"machine:{machine.key}").exists()
    inventory.look(cluster, gateway.provider_for(cluster))
    assert hosts(machine) == [GUEST.host]


def test_it_goes_when_the_machine_is_off(cluster, world, machine):
    locating.Locator().look([cluster.pk])
    world.machines[machine.ref].power = Power.OFF
    inventory.look(cluster, gateway.provider_for(cluster))
    assert hosts(machine) == []


def test_a_machine_is_asked_about_now_and_then_and_what_says_the_same_writes_nothing(cluster, world, machine, monkeypatch):
    locator = locating.Locator()
    for _ in range(3):
        locator.look([cluster.pk])
    assert world.calls.count("endpoints") == 1
    Change.objects.all().delete()
    monkeypatch.setattr(locating, "AGAIN_SECONDS", 0)
    locator = locating.Locator()
    assert locator.look([cluster.pk]) == 0 and world.calls.count("endpoints") == 2
    assert not Change.objects.exists()
    world.machines[machine.ref].addresses = (Endpoint("guest", "10.20.0.8", source="lease"),)
    assert locator.look([cluster.pk]) == 1
    assert hosts(machine) == ["10.20.0.8"]


def test_since_when_an_address_is_told_is_kept_as_long_as_it_is_told(cluster, world, machine, monkeypatch):
    def told_since():
        locating.Locator().look([cluster.pk])
        machine.refresh_from_db()
        return machine.told_since

    first = told_since()[GUEST.host]
    inventory.look(cluster, gateway.provider_for(cluster))
    world.machines[machine.ref].power = Power.OFF
    inventory.look(cluster, gateway.provider_for(cluster))
    assert hosts(machine) == [] and machine.told_since == {GUEST.host: first}
    Machine.objects.update(state=State.RUNNING, power="on", state_since=timezone.now() - timedelta(minutes=1))
    world.machines[machine.ref].power = Power.ON
    inventory.look(cluster, gateway.provider_for(cluster))
    Machine.objects.update(state_since=timezone.now() - timedelta(minutes=1))
    assert told_since() == {GUEST.host: first}
    world.machines[machine.ref].addresses = (Endpoint("guest", "10.20.0.8", source="lease"),)
    assert list(told_since()) == ["10.20.0.8"]


def test_a_machine_with_a_forward_or_without_an_inventory_since_it_is_on_is_not_asked_about(cluster, world, machine):
    Machine.objects.filter(pk=machine.pk).update(state_since=timezone.now() + timedelta(seconds=1))
    locating.Locator().look([cluster.pk])
    forward = {"service": "ssh", "host": "127.0.0.1", "port": 20022, "source": "forward"}
    Machine.objects.filter(pk=machine.pk).update(state_since=timezone.now() - timedelta(minutes=1), endpoints=[forward])
    locating.Locator().look([cluster.pk])
    assert "endpoints" not in world.calls


def test_what_is_no_address_is_dropped_and_there_is_an_end_to_it(cluster, world, machine):
    claims = [Endpoint("guest", f"10.20.0.{number}") for number in range(1, 60)]
    world.machines[machine.ref].addresses = (Endpoint("guest", "evil.test"), Endpoint("guest", "10.0.0.1\0"), Endpoint("guest", "127.0.0.1"), *claims)
    locating.Locator().look([cluster.pk])
    assert len(hosts(machine)) == locating.MOST_ADDRESSES and all(host.startswith("10.20.0.") for host in hosts(machine))


def test_a_guest_that_cannot_be_asked_keeps_nobody_from_theirs(cluster, world, machine):
    other = make_machine(template=machine.template, state=State.RUNNING)
    Machine.objects.filter(pk=other.pk).update(state_since=timezone.now() - timedelta(seconds=30), node="a node that is asked first")
    Machine.objects.filter(pk=machine.pk).update(node="another")
    identity = MachineIdentity(str(other.key), other.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[other.ref] = fakes.FakeMachine(identity, power=Power.ON)

    def hang(point, verb):
        if (point, verb) == ("before_call", "endpoints") and world.calls.count("endpoints") == 0 and not hung:
            hung.append(verb)
            raise Unreachable("no answer")

    hung: list[str] = []
    world.at = hang
    assert locating.Locator().look([cluster.pk]) == 1
    assert hosts(machine) == [GUEST.host] and hung


def test_a_node_is_asked_about_many_guests_in_a_round_and_not_longer_than_it_has(cluster, world, machine, monkeypatch):
    """Those that were never asked first."""
    for number in range(8, 18):
        other = make_machine(template=machine.template, state=State.RUNNING)
        Machine.objects.filter(pk=other.pk).update(state_since=timezone.now() - timedelta(seconds=30))
        identity = MachineIdentity(str(other.key), other.name, "7e57ab1e-0000-4000-8000-000000000000")
        world.machines[other.ref] = fakes.FakeMachine(identity, power=Power.ON, addresses=(Endpoint("guest", f"10.20.0.{number}"),))
    monkeypatch.setattr(locating, "NODE_SECONDS", 0)
    locator = locating.Locator()
    assert locator.look([cluster.pk]) == 1
    monkeypatch.setattr(locating, "NODE_SECONDS", 60)
    assert locator.look([cluster.pk]) == 10
    assert world.calls.count("endpoints") == 11


def test_its_threads_give_back_what_they_hold(cluster, world, machine, monkeypatch):
    closed = []
    monkeypatch.setattr(fakes.FakeProvider, "close", lambda provider: closed.append(provider))
    before = threading.active_count()
    locator = locating.Locator()
    locator.look([cluster.pk])
    assert not closed and threading.active_count() == before + 1
    locator.close()
    assert len(closed) == 1 and threading.active_count() == before


def test_a_silent_guest_is_asked_no_more_until_somebody_wants_it(cluster, world, machine):
    world.machines[machine.ref].addresses = ()
    Machine.objects.filter(pk=machine.pk).update(state_since=timezone.now() - timedelta(minutes=5))
    locator = locating.Locator()
    for _ in range(3):
        locator.look([cluster.pk])
    assert world.calls.count("endpoints") == 1
    locating.ask_again(machine)
    with pytest.raises(Refused):
        locating.ask_again(machine)
    for _ in range(3):
        locator.look([cluster.pk])
    assert world.calls.count("endpoints") == 2


def test_a_guest_that_does_not_answer_is_found_in_the_portals_network(cluster, world, machine, monkeypatch):
    monkeypatch.setattr(locating, "table", lambda: {"bc:24:11:00:00:07": ["10.20.0.9"], "bc:24:11:00:00:08": ["10.20.0.10"]})
    world.machines[machine.ref].addresses = (Endpoint("mac", "BC:24:11:00:00:07", source="config"),)
    assert locating.Locator().look([cluster.pk]) == 1
    machine.refresh_from_db()
    machine.cluster.networks = ["10.20.0.0/24"]
    shown = way_in(machine).address
    assert shown is not None and (shown.host, shown.source) == ("10.20.0.9", "arp") and shown.seen_at is not None


def test_a_network_is_scanned_only_where_that_is_allowed_and_not_all_the_time(cluster, world, machine, monkeypatch):
    stirred = []
    monkeypatch.setattr(locating, "stir", stirred.append)
    monkeypatch.setattr(locating, "AGAIN_SECONDS", 0)
    type(cluster).objects.update(networks=["10.20.0.0/24"])
    locating.Locator().look([cluster.pk])
    assert stirred == []
    type(cluster).objects.update(config={"active_scan": True})
    locator = locating.Locator()
    for _ in range(3):
        locator.look([cluster.pk])
    assert stirred == [["10.20.0.0/24"]]
