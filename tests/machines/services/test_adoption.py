"""Machines that were there before the portal: labelled, kept from harm, let go."""

import json

import pytest

from accounts.models import AuditEntry, User
from machines.lifecycle import Kind, State
from machines.models import Cluster, Machine, Operation, RealmIdentity
from machines.providers.types import Power
from machines.services import adoption, gateway, inventory, requests
from machines.services.refusal import Refused
from tests.factories import make_cluster, make_user
from tests.machines.providers.fakes import STRANGER, FakeMachine


@pytest.fixture
def staff(cluster):
    return make_user("sam", role="staff")


@pytest.fixture
def old(cluster, world):
    """Two guests that nobody labelled and one of another portal, as the watcher has seen them."""
    world.machines |= {"101": FakeMachine(None, power=Power.ON), "102": FakeMachine(None), "103": FakeMachine(STRANGER)}
    inventory.look(cluster, gateway.provider_for(cluster))
    return world.machines


@pytest.fixture
def adopted(cluster, old, staff, carry_on):
    machine = adoption.adopt(cluster, "101", acting_user=staff, owner=make_user("ada"), name="web")
    carry_on(machine.operations.get())
    machine.refresh_from_db()
    return machine


def test_what_nobody_has_labelled_is_offered(cluster, old):
    assert [guest["ref"] for guest in adoption.guests(cluster)] == ["101", "102"]


def test_an_adopted_machine_carries_our_label_and_is_as_it_was(cluster, world, adopted):
    assert (adopted.state, adopted.adopted, adopted.may_destroy, adopted.owner.username) == (State.RUNNING, True, False, "ada")
    assert world.machines["101"].identity == gateway.identity(adopted)
    assert world.machines["101"].power is Power.ON and world.machines["101"].spec is None
    assert Cluster.objects.get().adopted == ["101"]
    assert [guest["ref"] for guest in adoption.guests(cluster)] == ["102"]


def test_nothing_with_another_label_is_adopted(cluster, old, staff, world, carry_on):
    with pytest.raises(Refused):
        adoption.adopt(cluster, "103", acting_user=staff, owner=None)
    machine = adoption.adopt(cluster, "102", acting_user=staff, owner=None)
    world.machines["102"] = FakeMachine(STRANGER)  # took the number meanwhile
    assert carry_on(machine.operations.get()).code == "foreign_machine"
    assert world.machines["102"] == FakeMachine(STRANGER)


def test_twice_is_refused(cluster, adopted, staff):
    with pytest.raises(Refused):
        adoption.adopt(cluster, "101", acting_user=staff, owner=None)


def test_an_adopted_machine_is_not_destroyed_resized_or_made_anew(adopted, staff):
    for ask in (
        lambda: requests.destroy(adopted, acting_user=staff),
        lambda: requests.revert(adopted, acting_user=staff),
    ):
        with pytest.raises(Refused) as refusal:
            ask()
        assert refusal.value.code == "adopted"
    adopted.state = State.STOPPED
    adopted.save(update_fields=["state"])
    with pytest.raises(Refused) as refusal:
        requests.resize(adopted, acting_user=staff, cores=1, memory_mib=512)
    assert refusal.value.code == "adopted"
    assert Operation.objects.filter(kind__in=[Kind.DESTROY, Kind.REVERT, Kind.RESIZE]).count() == 0


def test_the_worker_asks_again_before_it_destroys(adopted, staff, world, carry_on):
    adoption.allow_destroying(adopted, True, acting_user=staff)
    operation = requests.destroy(adopted, acting_user=staff)
    adoption.allow_destroying(adopted, False, acting_user=staff)
    assert carry_on(operation).state == "failed"
    assert "101" in world.machines and "destroy" not in world.calls


def test_staff_may_allow_it_and_that_is_recorded(adopted, staff, world, carry_on):
    adoption.allow_destroying(adopted, True, acting_user=staff)
    assert AuditEntry.objects.filter(action="machine.destroying_allowed", actor=staff, object_id=str(adopted.key)).count() == 1
    carry_on(requests.destroy(adopted, acting_user=staff))
    adopted.refresh_from_db()
    assert adopted.state == State.DESTROYED and "101" not in world.machines


def test_one_that_went_missing_is_looked_for_and_never_made(adopted, staff, world, carry_on):
    adopted.state = State.MISSING
    adopted.save(update_fields=["state"])
    del world.machines["101"]
    operation = requests.retry(adopted, acting_user=staff)
    assert operation.kind == Kind.ADOPT and carry_on(operation).state == "failed"
    world.machines["101"] = FakeMachine(None)  # another one of the same number
    assert carry_on(requests.retry(adopted, acting_user=staff)).code == "foreign_machine"
    assert "create" not in world.calls and world.machines["101"].identity is None


def test_released_it_stays_as_it_was_before(cluster, adopted, staff, world, carry_on):
    carry_on(adoption.release(adopted, acting_user=staff))
    adopted.refresh_from_db()
    assert (adopted.state, adopted.ref) == (State.DESTROYED, "")
    assert world.machines["101"] == FakeMachine(None, power=Power.ON)
    assert Cluster.objects.get().adopted == [] and "destroy" not in world.calls
    inventory.look(cluster, gateway.provider_for(cluster))
    assert [guest["ref"] for guest in adoption.guests(cluster)] == ["101", "102"]


def test_a_mapping_says_line_by_line_what_it_would_do(cluster, adopted, staff):
    bea = make_user("bea")
    text = json.dumps({"bea@pve": [102, 102, 103], "nobody@pve": [999], "ada": [101, True]})
    lines = adoption.read_mapping(cluster, text)
    assert [(line.ref, line.owner, bool(line.problem)) for line in lines[:3]] == [("102", bea, False), ("102", bea, True), ("103", bea, True)]
    assert all(line.problem for line in lines[1:])
    machines, refused = adoption.adopt_lines(cluster, lines, acting_user=staff)
    assert [(machine.ref, machine.owner) for machine in machines] == [("102", bea)] and not refused
    assert adoption.mapping(cluster) == {"ada": [101], "bea": [102]}


@pytest.mark.parametrize("text", ["", "[]", '{"ada": 3}', "{"])
def test_other_files_are_refused_with_a_sentence(cluster, text):
    with pytest.raises(Refused):
        adoption.read_mapping(cluster, text)


def test_a_machine_goes_to_whom_the_clusters_account_belongs(cluster, adopted):
    elsewhere = make_cluster("elsewhere")
    other, here = make_user("ada@pve"), make_user(f"ada@pve@{cluster.pk}")
    RealmIdentity.objects.create(user=other, cluster=elsewhere, userid="ada@pve")
    assert adoption.person_for(cluster, "ada@pve") == adopted.owner  # the user ada: nobody signs in with accounts of this cluster
    cluster.config["realm_login"] = True
    assert adoption.person_for(cluster, "ada@pve") is None
    RealmIdentity.objects.create(user=here, cluster=cluster, userid="ada@pve")
    assert adoption.person_for(cluster, "ada@pve") == here
    assert adoption.person_for(cluster, f"ada@pve@{elsewhere.pk}") == other
    assert adoption.person_for(cluster, "ada") == adopted.owner
    User.objects.filter(pk=here.pk).update(is_active=False)
    assert adoption.person_for(cluster, "ada@pve") is None


def test_what_was_exported_is_imported_for_the_same_people(cluster, adopted, world, staff):
    elsewhere = make_cluster("elsewhere")
    for owner, place in ((make_user("ada@pve"), elsewhere), (make_user(f"ada@pve@{cluster.pk}"), cluster), (make_user("sam@pve"), None)):
        if place:
            RealmIdentity.objects.create(user=owner, cluster=place, userid="ada@pve")
        Machine.objects.filter(pk=adopted.pk).update(owner=owner)
        ((name, refs),) = adoption.mapping(cluster).items()
        assert refs == [101] and adoption.person_for(cluster, name) == owner
