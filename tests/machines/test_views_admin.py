"""The admin: secrets go in and never come out, states are read, actions go through the services."""

import pytest
from django.contrib import admin

from machines.lifecycle import Kind, State
from machines.models import Cluster, Machine, Operation
from tests.factories import make_cluster, make_machine, make_operation, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    user = make_user("sam", role="staff")
    client.force_login(user)
    return user


def cluster_form(**values):
    limits = {"limit_create": 4, "limit_power": 8, "limit_per_template": 4, "limit_booting": 0, "stop_deadline": 60}
    limits |= {"limit_create_per_node": 0, "limit_create_per_storage": 0, "limit_power_per_node": 0}
    return {"name": "east", "kind": "libvirt", "config": "{}", "networks": "", **limits, **values}


def test_a_clusters_secret_is_written_and_never_shown(client, staff):
    assert client.post("/admin/machines/cluster/add/", cluster_form(new_secret="open sesame")).status_code == 302
    cluster = Cluster.objects.get()
    assert cluster.secret == "open sesame"
    page = f"/admin/machines/cluster/{cluster.pk}/change/"
    assert "open sesame" not in client.get(page).content.decode()
    client.post(page, cluster_form(maintenance="on"))
    cluster.refresh_from_db()
    assert cluster.maintenance and cluster.secret == "open sesame"
    assert "open sesame" not in client.get(f"/admin/machines/cluster/{cluster.pk}/history/").content.decode()


@pytest.mark.parametrize("config", ["[]", '"qemu:///system"', "3", "{"])
def test_a_clusters_settings_have_names(client, staff, config):
    assert client.post("/admin/machines/cluster/add/", cluster_form(config=config)).status_code == 200
    assert not Cluster.objects.exists()


def test_what_was_seen_of_a_cluster_is_not_written_here(client, staff):
    cluster = make_cluster("east", reachable=False)
    client.post(f"/admin/machines/cluster/{cluster.pk}/change/", cluster_form(reachable="on"))
    cluster.refresh_from_db()
    assert not cluster.reachable


@pytest.mark.parametrize("model", ["machine", "operation", "operationevent", "batch", "node", "heartbeat"])
def test_states_are_read_and_never_written(client, staff, model):
    machine = make_machine()
    make_operation(machine, state="succeeded")
    assert client.get(f"/admin/machines/{model}/").status_code == 200
    assert client.get(f"/admin/machines/{model}/add/").status_code == 403
    if model in ("machine", "operation"):
        assert client.post(f"/admin/machines/{model}/1/delete/", {"post": "yes"}).status_code in (302, 403)
        page = f"/admin/machines/{model}/{Machine.objects.get().pk if model == 'machine' else Operation.objects.get().pk}/change/"
        assert client.post(page, {"state": "running"}).status_code == 403
    machine.refresh_from_db()
    assert machine.state == State.STOPPED


def test_actions_go_through_the_services(client, staff):
    off, on = make_machine("off"), make_machine("on", state=State.RUNNING)
    response = client.post("/admin/machines/machine/", {"action": "start", "_selected_action": [off.pk, on.pk]}, follow=True)
    operation = Operation.objects.get()
    assert (operation.machine, operation.kind, operation.requested_by) == (off, Kind.START, staff)
    text = response.content.decode()
    assert "Asked for on 1 machine." in text and "is on already." in text
    client.post("/admin/machines/operation/", {"action": "cancel", "_selected_action": [operation.pk]})
    operation.refresh_from_db()
    assert operation.state == "cancelled"


def test_the_list_of_machines_costs_the_same_however_many(client, staff, django_assert_max_num_queries):
    cluster = make_cluster()
    for _ in range(60):
        make_machine(cluster=cluster, owner=make_user())
    with django_assert_max_num_queries(12):
        assert client.get("/admin/machines/machine/").status_code == 200


def test_the_admin_offers_these_and_nothing_else():
    """Staff may do whatever it offers, so a package must not add to it: a row of django-q2's queue
    names a function to run, an address of allauth's resets a superuser's password."""
    assert {model._meta.label for model in admin.site._registry} == {
        *("accounts.AuditEntry", "accounts.RolePolicy", "accounts.User"),
        *("classes.Enrolment", "classes.LabClass", "classes.PoolMachine", "console.ConsoleTicket"),
        *("machines.Batch", "machines.Cluster", "machines.Heartbeat", "machines.Machine", "machines.MachineRequest", "machines.Node", "machines.Operation"),
        *("machines.OperationEvent", "machines.Template", "machines.Tier"),
    }
