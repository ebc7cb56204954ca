"""Looking at a cluster and writing down what is new."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from machines.lifecycle import State
from machines.models import Change, Cluster, Machine
from machines.providers.errors import Unreachable
from machines.providers.types import DiskInfo, Endpoint, Inventory, MachineIdentity, NodeInfo, Power
from machines.services import catalog, gateway, inventory
from machines.services.reconcile import UNUSUAL_SIGHTINGS
from tests.factories import make_machine, make_operation
from tests.machines.providers import fakes

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(hours=1)


@pytest.fixture
def provider(cluster):
    return gateway.provider_for(cluster)


def at_rest(cluster, world, state=State.STOPPED, **fields) -> Machine:
    machine = make_machine(template=cluster.templates.get(), state=state, **fields)
    Machine.objects.filter(pk=machine.pk).update(state_since=LONG_AGO, node="node1")
    identity = MachineIdentity(str(machine.key), machine.name, "7e57ab1e-0000-4000-8000-000000000000")
    world.machines[machine.ref] = fakes.FakeMachine(identity, power=Power.ON if state == State.RUNNING else Power.OFF)
    return machine


def test_a_machine_switched_off_behind_our_back_is_off_on_the_page_and_the_page_is_told(cluster, world, provider):
    machine = at_rest(cluster, world, State.RUNNING, answering_since=LONG_AGO)
    world.machines[machine.ref].power = Power.OFF
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert (machine.state, machine.power, machine.answering_since) == (State.STOPPED, "off", None)
    assert Change.objects.filter(topic=f"machine:{machine.key}").exists()


def test_a_look_that_brings_nothing_new_writes_the_time_of_the_look_alone(cluster, world, provider, django_assert_num_queries):
    for _ in range(20):
        at_rest(cluster, world)
    inventory.look(cluster, provider)
    before = list(Machine.objects.values())
    with django_assert_num_queries(6):  # rows, nodes, and the cluster's own row between two savepoints
        inventory.look(cluster, provider)
    assert list(Machine.objects.values()) == before and not Change.objects.filter(topic__startswith="machine:").exists()
    assert Cluster.objects.get(pk=cluster.pk).seen_at > timezone.now() - timedelta(seconds=5)


def test_a_machine_that_moves_while_the_cluster_is_looked_at_is_left_to_the_next_look(cluster, world, provider):
    machine = at_rest(cluster, world)

    def start_meanwhile(point, verb):
        if (point, verb) == ("after_call", "inventory"):
            Machine.objects.filter(pk=machine.pk).update(state=State.RUNNING, state_since=timezone.now())

    world.at = start_meanwhile
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert machine.state == State.RUNNING


def test_a_machine_that_moves_between_plan_and_write_is_left_alone(cluster, world, provider, monkeypatch):
    machine = at_rest(cluster, world, State.RUNNING)
    world.machines[machine.ref].power = Power.OFF
    real = inventory._known

    def then_restart(*args):
        rows = list(real(*args))
        Machine.objects.filter(pk=machine.pk).update(state=State.RESTARTING)
        return rows

    monkeypatch.setattr(inventory, "_known", then_restart)
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert (machine.state, machine.power) == (State.RESTARTING, "on")


def test_a_machine_that_is_worked_on_is_nobody_elses_business(cluster, world, provider):
    machine = make_operation(at_rest(cluster, world, State.STARTING), state="waiting").machine
    world.machines[machine.ref].power = Power.ON
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert machine.state == State.STARTING


def test_missing_after_two_looks_and_found_again(cluster, world, provider):
    machine = at_rest(cluster, world)
    kept = world.machines.pop(machine.ref)
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert machine.state == State.STOPPED and machine.misses == 1
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert machine.state == State.MISSING and machine.problem == "The cluster does not find this machine any more."
    world.machines[machine.ref] = kept
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert (machine.state, machine.misses, machine.problem) == (State.STOPPED, 0, "")


def test_a_cluster_that_does_not_answer_makes_nothing_missing(cluster, world, provider):
    machine = at_rest(cluster, world)
    world.outage = True
    for _ in range(5):
        with pytest.raises(Unreachable) as raised:
            inventory.look(cluster, provider)
        inventory.note_trouble(cluster, raised.value)
    machine.refresh_from_db()
    cluster.refresh_from_db()
    assert machine.state == State.STOPPED and machine.misses == 0
    assert not cluster.reachable and cluster.problem == "The cluster does not answer at the moment."
    assert Change.objects.filter(topic=f"cluster:{cluster.pk}").count() == 1


def test_when_it_answers_again_the_work_goes_on(cluster, world, provider):
    operation = make_operation(at_rest(cluster, world, State.STARTING), code="unreachable", not_before=timezone.now() + timedelta(seconds=30))
    inventory.note_trouble(cluster, Unreachable())
    inventory.look(cluster, provider)
    operation.refresh_from_db()
    cluster.refresh_from_db()
    assert cluster.reachable and cluster.problem == "" and operation.not_before <= timezone.now() and OrmQ.objects.exists()


def test_an_unusual_loss_is_said_and_only_believed_after_many_looks(cluster, world, provider):
    machines = [at_rest(cluster, world) for _ in range(4)]
    world.machines.clear()
    for _ in range(UNUSUAL_SIGHTINGS - 1):
        inventory.look(cluster, provider)
    cluster.refresh_from_db()
    assert cluster.problem == "4 of 4 machines vanished at once. Looking again before that is believed (19 of 20)."
    assert set(Machine.objects.values_list("state", flat=True)) == {State.STOPPED}
    inventory.look(cluster, provider)
    cluster.refresh_from_db()
    assert cluster.problem == "" and Machine.objects.filter(state=State.MISSING).count() == len(machines)


def test_orphans_are_told_of_and_left_alone(cluster, world, provider, caplog):
    identity = MachineIdentity("00000000-0000-4000-8000-000000000009", "old", "7e57ab1e-0000-4000-8000-000000000000")
    world.machines["left"] = fakes.FakeMachine(identity)
    world.settle_in("stranger")
    inventory.look(cluster, provider)
    inventory.look(cluster, provider)
    cluster.refresh_from_db()
    assert cluster.orphans == [{"ref": "left", "name": "vm"}]
    assert len([record for record in caplog.records if "left alone: left" in record.message]) == 1
    assert "left" in world.machines and not Machine.objects.exists()


def test_addresses_and_nodes_are_kept_as_seen(cluster, world, provider):
    machine = at_rest(cluster, world)
    world.machines[machine.ref].endpoints = (Endpoint("ssh", "127.0.0.1", 2207, "forward"),)
    inventory.look(cluster, provider)
    machine.refresh_from_db()
    assert machine.endpoints == [{"service": "ssh", "host": "127.0.0.1", "port": 2207, "source": "forward"}] and machine.node == "node1"
    inventory.apply(cluster, Inventory((), (NodeInfo("node1", True, 2, 24000, 1023),)), began=timezone.now())
    inventory.apply(cluster, Inventory((), ()), began=timezone.now())
    node = cluster.nodes.get()
    assert (node.name, node.online, node.memory_free_mib) == ("node1", False, 768)


def test_figures_that_no_host_has_are_written_as_far_as_they_go(cluster):
    told = Inventory((), (NodeInfo("node1", True, -1, 1 << 60, 1 << 60),), disk=DiskInfo(1 << 60, 1 << 60))
    inventory.apply(cluster, told, began=timezone.now())
    node = cluster.nodes.get()
    assert node.cores == 0 and node.memory_total_mib == cluster.__class__.objects.get().disk_free_gib == 2**31 - 1


def test_templates_come_and_go_but_their_rows_stay(cluster, world, provider):
    tiny = cluster.templates.get()
    tiny.__class__.objects.filter(pk=tiny.pk).update(name="Small Debian")
    world.templates = {"tiny", "debian"}
    assert {template.ref for template in catalog.sync_templates(cluster)} == {"tiny", "debian"}
    assert cluster.templates.get(ref="debian").audience == "staff"  # until they say who else may use it
    world.templates = {"debian"}
    assert [template.ref for template in catalog.sync_templates(cluster, provider)] == ["debian"]
    tiny.refresh_from_db()
    assert (tiny.name, tiny.present) == ("Small Debian", False)


def test_a_template_that_may_be_there_all_the_same_stays(cluster, world, provider, monkeypatch):
    monkeypatch.setattr(provider, "may_have_template", lambda ref: ref == "tiny")
    cluster.templates.create(ref="gone", name="gone")
    world.templates = set()
    assert [template.ref for template in catalog.sync_templates(cluster, provider)] == ["tiny"]
