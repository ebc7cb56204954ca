"""The queue in the admin: what staff see before they decide, and that the page only records it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from machines.lifecycle import Kind, State
from machines.models import Cluster, Machine, MachineRequest, Operation, RequestState, Template
from tests.factories import make_cluster, make_machine, make_request, make_template, make_user

pytestmark = pytest.mark.django_db
QUEUE = "/admin/machines/machinerequest/"
S = RequestState


@pytest.fixture
def sam(client):
    user = make_user("sam", role="staff")
    client.force_login(user)
    return user


@pytest.fixture
def ada():
    return make_user("ada")


@pytest.fixture
def cluster():
    cluster = make_cluster("east")
    cluster.nodes.create(name="one", cores=8, memory_total_mib=16384, memory_free_mib=8192)
    make_template(cluster, name="Debian 12")
    return cluster


def wish(ada, cluster, **fields) -> MachineRequest:
    return make_request(ada, template=cluster.templates.get(), **fields)


def change(request) -> str:
    return f"{QUEUE}{request.pk}/change/"


def decide(client, request, button, **values):
    mails = {"mails-TOTAL_FORMS": 0, "mails-INITIAL_FORMS": 0}
    return client.post(change(request), {"until": request.until.isoformat(), "answer": "", button: "1", **mails, **values}, follow=True)


def listed(client, query="") -> set[int]:
    return {request.pk for request in client.get(QUEUE + query).context["cl"].result_list}


def test_the_queue_shows_what_staff_decide_by(client, sam, ada, cluster):
    request = wish(ada, cluster, reason="A web server for <b>group 4</b>.")
    text = client.get(QUEUE).content.decode()
    assert "Debian 12, Silver (Virtual machine) on east" in text and "ada" in text
    assert "A web server for &lt;b&gt;group 4&lt;/b&gt;." in text
    assert "Enough</span> 8 GiB → 6 GiB" in text
    page = client.get(change(request)).content.decode()
    assert "Memory: 8 GiB of 16 GiB free now, 6 GiB after." in page
    assert "machines that are on have 0 of 8 now, 2 after" in page and "Silver: 2 cores, 2 GiB, 16 GiB disk" in page


def test_the_disk_a_cluster_tells_of_is_shown_before_and_after(client, sam, ada, cluster):
    request = wish(ada, cluster)
    assert "Disk: not known" in client.get(change(request)).content.decode()
    Cluster.objects.update(disk_free_gib=20, disk_total_gib=100)
    assert "Disk: 20 GiB of 100 GiB free now, 4 GiB when" in client.get(change(request)).content.decode()
    Cluster.objects.update(disk_free_gib=10)
    assert "Tight</span>" in client.get(QUEUE).content.decode()


@pytest.mark.parametrize(("free", "word"), [(3000, "Tight"), (1000, "Not enough")])
def test_too_little_room_is_said_in_words(client, sam, ada, cluster, free, word):
    cluster.nodes.update(memory_free_mib=free)
    wish(ada, cluster)
    assert f"{word}</span>" in client.get(QUEUE).content.decode()


def test_room_that_is_not_known_is_said_to_be(client, sam, ada, cluster):
    cluster.nodes.all().delete()
    request = wish(ada, cluster)
    assert "Not known</span>" in client.get(QUEUE).content.decode()
    assert "the cluster has told of no host" in client.get(change(request)).content.decode()


def test_the_queue_is_what_waits_unless_another_state_is_asked_for(client, sam, ada, cluster):
    by_state = {state: wish(ada, cluster, state=state).pk for state in RequestState}
    over = wish(ada, cluster, state=S.READY, machine=make_machine(cluster=cluster), until=timezone.localdate() - timedelta(days=1)).pk
    assert listed(client) == {by_state[S.PENDING], by_state[S.FAILED]}
    assert listed(client, "?state=rejected") == {by_state[S.REJECTED]}
    assert listed(client, "?state=over") == {over}
    assert listed(client, "?state=all") == {*by_state.values(), over}


def test_the_queue_is_filtered_by_cluster_and_searched(client, sam, ada, cluster):
    here = wish(ada, cluster)
    there = make_request(make_user("bob"), reason="Networks, group 9")
    assert listed(client, f"?template__cluster__id__exact={cluster.pk}") == {here.pk}
    assert listed(client, "?q=bob") == listed(client, "?q=group+9") == {there.pk}


def test_approving_records_the_decision_and_leaves_the_work_to_the_worker(client, sam, ada, cluster):
    request = wish(ada, cluster)
    response = decide(client, request, "_approve", answer="Have fun.")
    assert "1 request is approved: the machine is being made." in response.content.decode()
    request.refresh_from_db()
    assert (request.state, request.decided_by, request.answer) == (S.APPROVED, sam, "Have fun.")
    operation = Operation.objects.get()
    assert (operation.kind, operation.state, operation.params, operation.machine) == (Kind.PROVISION, "queued", {"start": True}, request.machine)
    assert request.machine.state == State.PENDING


def test_the_second_who_approves_is_told_who_was_first(client, sam, ada, cluster):
    request = wish(ada, cluster)
    decide(client, request, "_approve")
    client.force_login(make_user("sue", role="staff"))
    assert "was approved by sam already" in decide(client, request, "_approve").content.decode()
    assert "was approved by sam already" in decide(client, request, "_reject", answer="No.").content.decode()
    request.refresh_from_db()
    assert (request.state, request.answer) == (S.APPROVED, "") and Machine.objects.count() == 1


def test_rejecting_needs_a_reason(client, sam, ada, cluster):
    request = wish(ada, cluster)
    assert "Give a reason." in decide(client, request, "_reject").content.decode()
    request.refresh_from_db()
    assert request.state == S.PENDING
    decide(client, request, "_reject", answer="Use the class's machine.")
    request.refresh_from_db()
    assert (request.state, request.answer) == (S.REJECTED, "Use the class's machine.") and not Machine.objects.exists()


def test_what_is_gone_is_said_and_the_request_stays(client, sam, ada, cluster):
    request = wish(ada, cluster)
    Template.objects.update(present=False)
    text = decide(client, request, "_approve").content.decode()
    assert "The template “Debian 12” is not offered on east any more." in text
    request.refresh_from_db()
    assert request.state == S.PENDING


def test_a_page_that_is_old_overwrites_nothing_but_the_last_day(client, sam, ada, cluster):
    request = wish(ada, cluster)
    decide(client, request, "_approve", answer="Yes.")
    until = timezone.localdate() + timedelta(days=99)
    decide(client, request, "_continue", until=until.isoformat(), state="pending", answer="Overwritten.")
    request.refresh_from_db()
    assert (request.until, request.state, request.answer) == (until, S.APPROVED, "Yes.")


def many(client, wish, requests, **values):
    return client.post(QUEUE, {"action": f"{wish}_many", "_selected_action": [request.pk for request in requests], **values}, follow=True)


def test_many_are_approved_at_once_after_a_look_at_the_room(client, sam, ada, cluster):
    requests = [wish(ada, cluster) for _ in range(3)]
    text = many(client, "approve", requests).content.decode()
    assert "Approve 3 requests" in text and "Memory: 8 GiB of 16 GiB free now, 2 GiB after." in text
    assert not Machine.objects.exists()
    text = many(client, "approve", requests, decide="1", answer="").content.decode()
    assert "3 requests are approved" in text and Machine.objects.count() == 3
    assert len(set(Machine.objects.values_list("name", flat=True))) == 3


def test_of_many_those_decided_meanwhile_hold_up_no_other(client, sam, ada, cluster):
    one, two = wish(ada, cluster), wish(ada, cluster)
    decide(client, one, "_approve")
    text = many(client, "approve", [one, two], decide="1").content.decode()
    assert "was approved by sam already" in text and "1 request is approved" in text
    assert Machine.objects.count() == 2


def test_many_are_rejected_with_one_reason(client, sam, ada, cluster):
    requests = [wish(ada, cluster) for _ in range(2)]
    text = many(client, "reject", requests, decide="1", answer=" ").content.decode()
    assert "This field is required." in text and "Reject 2 requests" in text
    many(client, "reject", requests, decide="1", answer="There is no room until May.")
    assert set(MachineRequest.objects.values_list("state", "answer")) == {(S.REJECTED, "There is no room until May.")}


def test_requests_are_made_and_deleted_by_nobody_here(client, sam, ada, cluster):
    request = wish(ada, cluster)
    assert client.get(f"{QUEUE}add/").status_code == 403
    assert client.post(f"{QUEUE}{request.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_nobody_but_staff_decides(client, ada, cluster, role):
    request = wish(ada, cluster)
    client.force_login(make_user(role=role))
    decide(client, request, "_approve")
    many(client, "approve", [request], decide="1")
    request.refresh_from_db()
    assert request.state == S.PENDING and not Machine.objects.exists()


def test_the_queue_costs_the_same_however_many(client, sam, ada, cluster, django_assert_max_num_queries):
    for _ in range(40):
        wish(make_user(), cluster)
    with django_assert_max_num_queries(16):
        assert client.get(QUEUE).status_code == 200
