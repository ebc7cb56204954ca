"""Every page of the machines app in every state a machine can be in, whole and as a fragment."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.services import audit
from machines.lifecycle import MOVING, Kind, State
from machines.models import Cluster, Machine, Operation, OperationEvent, Snapshot
from machines.selectors import pages
from tests.factories import make_cluster, make_machine, make_operation, make_request, make_template, make_user

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}
SSH = [{"service": "ssh", "host": "127.0.0.1", "port": 2207, "source": "forward"}]


@pytest.fixture
def owner(client):
    user = make_user("ada")
    client.force_login(user)
    return user


def page(machine: Machine) -> str:
    return reverse("machines:machine", args=[machine.key])


def verb(machine: Machine, word: str) -> str:
    return reverse("machines:power", args=[machine.key, word])


@pytest.mark.parametrize("state", [state for state in State if state is not State.DESTROYED])
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
def test_pages_show_every_state(client, owner, state, headers):
    machine = make_machine("web-07", owner=owner, state=state, endpoints=SSH, problem="It is broken." if state == State.FAILED else "")
    if state in MOVING:
        operation = make_operation(machine, state="running")
        OperationEvent.objects.create(operation=operation, text="Switching it on.")
    for url in (reverse("machines:mine"), page(machine)):
        text = client.get(url, **headers).content.decode()
        assert "web-07" in text
        assert str(machine.get_state_display()) in text
        assert ("<!doctype html>" in text) is (not headers)
        assert "style=" not in text and "onclick" not in text
    if state in MOVING:
        assert "Switching it on." in client.get(page(machine), **headers).content.decode()


def test_an_empty_list_says_how_to_get_a_machine(client, owner):
    make_machine("of-somebody-else")
    text = client.get("/").content.decode()
    assert "No machines yet" in text and "invite link" in text and "of-somebody-else" not in text


def test_the_one_primary_action_follows_the_state(client, owner):
    expected = {State.STOPPED: "Start", State.RUNNING: "Open screen", State.FAILED: "Try again", State.MISSING: "Make it again"}
    for state, word in expected.items():
        machine = make_machine(owner=owner, state=state)
        text = client.get(page(machine), **HTMX).content.decode()
        assert text.count("btn-primary") == 1
        assert word in text.split("btn-primary")[1][:400]


def test_a_console_that_cannot_be_opened_says_why(client, owner):
    machine = make_machine(owner=owner, state=State.STOPPED)
    assert "Start the machine first." in client.get(page(machine)).content.decode()


def test_the_address_comes_with_the_command_to_use_it(client, owner):
    text = client.get(page(make_machine(owner=owner, state=State.RUNNING, endpoints=SSH))).content.decode()
    assert "127.0.0.1:2207" in text and "ssh -p 2207 student@127.0.0.1" in text


def test_what_is_shown_of_a_silent_cluster_is_said_to_be_old(client, owner):
    machine = make_machine(owner=owner, state=State.RUNNING, cluster=make_cluster(reachable=False))
    text = client.get(page(machine)).content.decode()
    assert "Last seen on" in text and "Your machine may still be running: the cluster has not answered" in text


def test_a_queued_operation_tells_its_place_and_can_be_cancelled(client, owner):
    cluster = make_cluster()
    make_operation(make_machine(cluster=cluster, state=State.STARTING), slot="boot")
    machine = make_machine(owner=owner, cluster=cluster, state=State.STARTING)
    operation = make_operation(machine, slot="boot")
    text = client.get(page(machine)).content.decode()
    assert "place 2 in the queue" in text
    client.post(verb(machine, "cancel"), {"operation": operation.key})
    operation.refresh_from_db()
    assert operation.state == "cancelled"


def test_the_operation_of_another_machine_cannot_be_cancelled_through_ones_own(client, owner):
    other = make_operation(make_machine(state=State.STARTING))
    mine = make_machine(owner=owner)
    assert client.post(verb(mine, "cancel"), {"operation": other.key}).status_code == 404
    assert client.post(verb(mine, "cancel"), {"operation": "nonsense"}).status_code == 404
    other.refresh_from_db()
    assert other.state == "queued"


# -- doing -------------------------------------------------------------------------------------


def test_start_without_scripts_leads_back_to_the_page(client, owner):
    machine = make_machine(owner=owner)
    response = client.post(verb(machine, "start"))
    assert response.status_code == 302 and response.url == page(machine)
    assert Operation.objects.get().kind == Kind.START
    assert "Starting…" in client.get(page(machine)).content.decode()


def test_start_by_htmx_answers_nothing_but_that_it_is_done(client, owner):
    response = client.post(verb(make_machine(owner=owner), "start"), **HTMX)
    assert response.status_code == 204 and not response.content


def test_two_tabs_pressing_start_make_one_operation(client, owner):
    machine = make_machine(owner=owner)
    assert [client.post(verb(machine, "start"), **HTMX).status_code for _ in range(2)] == [204, 204]
    assert Operation.objects.count() == 1


def test_a_refusal_is_told_in_words(client, owner):
    machine = make_machine("web-07", owner=owner, state=State.RUNNING)
    response = client.post(verb(machine, "start"))
    assert response.status_code == 409 and "web-07 is on already." in response.content.decode()
    response = client.post(verb(machine, "start"), **HTMX)
    assert response.status_code == 409 and "web-07 is on already." in response.headers["HX-Trigger"]


@pytest.mark.parametrize(("word", "lost"), [("revert", "is lost"), ("force-off", "pulling the plug"), ("restart", "not saved is lost")])
def test_what_loses_something_asks_first(client, owner, word, lost):
    machine = make_machine(owner=owner, state=State.RUNNING)
    for headers in ({}, HTMX):
        text = client.get(verb(machine, word), **headers).content.decode()
        assert lost in text and "autofocus" in text.split("btn-danger")[0]
    assert not Operation.objects.exists()
    client.post(verb(machine, word))
    assert Operation.objects.count() == 1


def test_a_machine_whose_node_does_not_answer_is_last_seen_as_it_was(client, owner):
    machine = make_machine(owner=owner, state=State.RUNNING, power="unknown", seen_at=timezone.now(), node="pve1")
    assert "Last seen on" not in client.get(page(machine)).content.decode()  # of a new one nothing is told yet
    Machine.objects.update(state_since=timezone.now() - timedelta(minutes=1))
    Cluster.objects.update(reachable=True, seen_at=timezone.now())
    for url in (page(machine), reverse("machines:mine")):
        text = client.get(url, **HTMX).content.decode()
        assert "Last seen on" in text and "The node pve1 does not answer. The machine may still be running." in text


def test_what_is_not_ours_any_more_is_said_to_stay_before_the_portal_forgets_it(client):
    client.force_login(make_user(role="staff"))
    machine = make_machine(state=State.FAILED, problem="Not ours.", problem_code="foreign_machine", ref="100001")
    text = client.get(verb(machine, "delete")).content.decode()
    assert "What is at 100001 on" in text and "left alone" in text and "all its snapshots are lost" not in text


def test_where_no_snapshots_are_kept_the_page_says_that_a_revert_makes_it_anew(client, owner):
    machine = make_machine(owner=owner, state=State.STOPPED, made_at=timezone.now(), keeps_snapshots=False)
    text = client.get(page(machine), **HTMX).content.decode()
    assert "keeps no snapshots" in text and "Take snapshot" not in text
    assert "made anew from its template" in client.get(verb(machine, "revert")).content.decode()
    refused = client.post(reverse("machines:snapshot", args=[machine.key]), {"name": "mine"})
    assert "keeps no snapshots" in refused.content.decode() and not machine.operations.exists()


def test_of_a_machine_that_was_there_before_nothing_is_offered_that_is_refused(client, owner):
    machine = make_machine(owner=owner, state=State.STOPPED, made_at=timezone.now(), adopted=True)
    text = client.get(page(machine), **HTMX).content.decode()
    assert verb(machine, "revert") not in text and "Take snapshot" in text


def test_revert_names_since_when_things_are_lost(client, owner):
    machine = make_machine(owner=owner)
    snapshot = Snapshot.objects.create(machine=machine, name="before-lesson-2", ready=True)
    text = client.get(verb(machine, "revert"), {"snapshot": snapshot.name}).content.decode()
    assert "before-lesson-2" in text and "since" in text
    client.post(verb(machine, "revert"), {"snapshot": snapshot.name})
    assert Operation.objects.get().params["snapshot"] == "before-lesson-2"


def test_verbs_that_lose_nothing_are_not_links(client, owner):
    machine = make_machine(owner=owner)
    assert client.get(verb(machine, "start")).url == page(machine)
    assert not Operation.objects.exists()


def test_a_snapshot_is_taken_and_a_bad_name_keeps_what_was_typed(client, owner):
    machine = make_machine(owner=owner)
    url = reverse("machines:snapshot", args=[machine.key])
    response = client.post(url, {"name": "not a name", "note": "typed with care"})
    text = response.content.decode()
    assert response.status_code == 409 and "typed with care" in text
    assert "Use only letters from a to z, digits and dashes" in text and "slug" not in text
    assert client.post(url, {"name": "clean", "note": ""}).status_code == 302
    assert Snapshot.objects.get().name == "clean"


def test_only_staff_delete_and_give_any_size(client, owner):
    machine = make_machine(owner=owner)
    assert client.post(verb(machine, "delete")).status_code == 403
    assert client.get(reverse("machines:resize", args=[machine.key])).status_code == 403
    client.force_login(make_user(role="staff"))
    assert "cannot be undone" in client.get(verb(machine, "delete")).content.decode()
    assert client.post(verb(machine, "delete")).url == "/"
    machine.refresh_from_db()
    assert machine.state == State.DESTROYING


# -- secrets -----------------------------------------------------------------------------------


def test_the_password_is_shown_on_demand_and_the_look_recorded(client, owner):
    machine = make_machine(owner=owner, state=State.RUNNING, password="s3cret-word")
    assert "s3cret-word" not in client.get(page(machine)).content.decode()
    for headers in ({}, HTMX):
        response = client.post(reverse("machines:credentials", args=[machine.key]), **headers)
        assert "s3cret-word" in response.content.decode()
        assert "no-store" in response.headers["Cache-Control"]
    assert AuditEntry.objects.filter(action="machine.credentials", actor=owner).count() == 2
    assert "s3cret-word" not in str(list(AuditEntry.objects.values()))
    assert "User and password shown" in client.get(page(machine)).content.decode()


# -- lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine", "requests"])
def test_what_is_on_several_clusters_is_shown_of_one(client, owner, name):
    url = reverse(f"machines:{name}")
    east, west, strange = make_cluster("east"), make_cluster("west"), make_cluster("strange")
    make_machine(cluster=strange, owner=make_user())

    def put(cluster):
        template = make_template(cluster, name=f"made-{cluster}")
        make_request(owner, template=template)
        make_machine(f"vm-{cluster}", template=template, owner=owner)

    put(east)
    assert 'name="cluster"' not in client.get(url).content.decode()
    put(west)
    text = client.get(url).content.decode()
    assert 'name="cluster"' in text and f'<option value="{west.pk}"' in text and f'<option value="{strange.pk}"' not in text
    for headers in ({}, HTMX):
        text = client.get(url, {"cluster": west.pk}, **headers).content.decode()
        assert "made-west" in text and "made-east" not in text
    for nonsense in (strange.pk, "x", "-1", "9" * 40):
        text = client.get(url, {"cluster": nonsense}).content.decode()
        assert "made-west" in text and "made-east" in text


def test_mine_costs_the_same_however_many(client, owner, django_assert_max_num_queries):
    cluster = make_cluster()
    for number in range(30):
        machine = make_machine(f"vm-{number:02}", owner=owner, cluster=cluster, state=State.STARTING if number % 2 else State.RUNNING)
        if number % 2:
            make_operation(machine)
    with django_assert_max_num_queries(10):
        text = client.get("/").content.decode()
    assert "1 to 24 of 30" in text
    assert "vm-29" in client.get("/?page=2").content.decode()


def test_staff_filter_machines_and_operations_by_the_address(client):
    client.force_login(make_user(role="staff"))
    on, off = make_machine("alpha", state=State.RUNNING), make_machine("beta")
    make_operation(on, state="failed", kind=Kind.START, message="No luck.")
    make_operation(off, state="succeeded", kind=Kind.STOP)
    text = client.get("/machines/?state=running").content.decode()
    assert "alpha" in text and "beta" not in text
    text = client.get("/machines/?q=bet").content.decode()
    assert "beta" in text and "alpha" not in text
    text = client.get("/operations/?state=failed").content.decode()
    assert "No luck." in text and "beta" not in text
    assert "No operations" in client.get("/operations/?state=active").content.decode()
    assert client.get("/operations/?cluster=x&page=zzz").status_code == 200


def test_history_goes_back_as_far_as_it_was(client, owner):
    machine = make_machine(owner=owner)
    for number in range(60):
        make_operation(machine, state="failed", message=f"reason number {number:02}")
    first = client.get(reverse("machines:history", args=[machine.key])).content.decode()
    assert "reason number 59" in first and "reason number 02" not in first
    earlier = first.split('href="?before=')[1].split('"')[0]
    assert "reason number 02" in client.get(reverse("machines:history", args=[machine.key]) + "?before=" + earlier).content.decode()
    assert client.get(reverse("machines:history", args=[machine.key]) + "?before=nonsense").status_code == 200


# -- what happened -----------------------------------------------------------------------------


def test_consoles_opened_one_after_another_are_one_entry_and_the_history_has_each(client, owner):
    machine = make_machine(owner=owner, state=State.RUNNING)
    make_operation(machine, kind=Kind.SNAPSHOT, state="succeeded")
    for kind in ["screen"] * 8 + ["terminal"]:
        audit.record("console.open", acting_user=owner, target=machine, kind=kind)
    make_operation(machine, kind=Kind.START, state="succeeded")
    for _ in range(4):
        audit.record("console.open", acting_user=owner, target=machine, kind="screen")
    happened, earlier = pages.overview(machine)
    assert [entry.title for entry in happened] == ["Screen opened 4 times", "Start", "Screen or terminal opened 9 times", "Take snapshot"]
    assert earlier is None
    shortened, earlier = pages.overview(machine, length=3)
    assert len(shortened) == 3 and [entry.title for entry in pages.timeline(machine, before=earlier)[0]] == ["Take snapshot"]
    assert client.get(reverse("machines:history", args=[machine.key])).content.decode().count("Screen opened") == 12
