"""What guests are told of the person who has them, and when."""

import pytest

from accounts.models import SshKey
from machines.lifecycle import Event, State
from machines.models import Machine
from machines.services import gateway, requests, transitions
from tests.factories import make_user

from .conftest import made, new_machine

LAPTOP, DESK = "ssh-ed25519 AAAAlaptop", "ssh-ed25519 AAAAdesk"


@pytest.fixture
def ada(db):
    return with_key(make_user("ada", keyboard="de"), LAPTOP)


def with_key(user, text):
    SshKey.objects.create(user=user, name=text[-6:], text=text, fingerprint=text)
    return user


def told(world, machine):
    seed = world.machines[Machine.objects.get(pk=machine.pk).ref].spec.seed
    return seed.keyboard, *seed.ssh_keys[1:]  # the first is the portal's own


def test_a_machine_made_for_a_person_has_their_keys_beside_the_portals(cluster, world, carry_on, ada):
    machine, operation = new_machine(cluster, owner=ada)
    carry_on(operation)
    machine.refresh_from_db()
    assert told(world, machine) == ("de", LAPTOP)
    assert world.machines[machine.ref].spec.seed.ssh_keys[0] == machine.ssh_public_key
    assert not machine.seed_read


def test_a_machine_that_was_never_on_is_told_of_who_has_it_when_it_is_first_started(cluster, world, carry_on, ada):
    """As those of classes, which are made before anybody has them."""
    machine, operation = new_machine(cluster)
    carry_on(operation)
    assert told(world, machine) == ("us",)
    Machine.objects.filter(pk=machine.pk).update(owner=ada)
    carry_on(requests.start(Machine.objects.get(pk=machine.pk), acting_user=ada))
    machine.refresh_from_db()
    assert told(world, machine) == ("de", LAPTOP) and machine.seed_read


def test_a_used_guest_keeps_its_seed_until_it_is_reverted_to_its_beginning(cluster, world, carry_on, ada):
    machine, operation = new_machine(cluster, owner=ada, start=True)
    carry_on(operation)
    with_key(ada, DESK)
    for verb in (requests.force_off, requests.start, requests.force_off):
        carry_on(verb(Machine.objects.get(pk=machine.pk), acting_user=ada))
        assert told(world, machine) == ("de", LAPTOP)
    carry_on(requests.revert(Machine.objects.get(pk=machine.pk), acting_user=ada))
    assert told(world, machine) == ("de", LAPTOP, DESK)


def test_a_snapshot_brings_back_the_seed_that_its_guest_has_read(cluster, world, carry_on, ada):
    """With another one it would make new host keys, which the portal would refuse."""
    machine, operation = new_machine(cluster, owner=ada, start=True)
    carry_on(operation)
    Machine.objects.filter(pk=machine.pk).update(ssh_host_key="pinned")
    carry_on(requests.force_off(Machine.objects.get(pk=machine.pk), acting_user=ada))
    carry_on(requests.take_snapshot(Machine.objects.get(pk=machine.pk), acting_user=ada, name="clean"))
    with_key(ada, DESK)
    carry_on(requests.revert(Machine.objects.get(pk=machine.pk), acting_user=ada))
    assert told(world, machine) == ("de", LAPTOP, DESK)
    carry_on(requests.revert(Machine.objects.get(pk=machine.pk), acting_user=ada, snapshot="clean"))
    machine.refresh_from_db()
    assert told(world, machine) == ("de", LAPTOP) and machine.ssh_host_key == "pinned"


def test_a_machine_seen_on_has_read_its_seed_whoever_switched_it_on(cluster, world):
    machine = made(cluster, world, State.STOPPED, seed_read=False)
    transitions.apply(machine, Event.SEEN_ON)
    machine.refresh_from_db()
    assert machine.seed_read


def test_many_keys_cost_one_query(cluster, world, ada, django_assert_num_queries):
    machine = made(cluster, world, owner=ada)
    for number in range(5):
        with_key(ada, f"ssh-ed25519 AAAA{number}")
    with django_assert_num_queries(1):
        assert len(gateway.told_of_person(machine)["ssh_keys"]) == 6
