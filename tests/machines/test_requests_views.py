"""The pages of requests: asking loses nothing typed, and each state says what it means."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from machines.lifecycle import Kind, State
from machines.models import MachineRequest, OperationEvent, RequestState, Template, TemplateKind, Tier
from machines.services import approvals
from tests.factories import make_cluster, make_machine, make_operation, make_request, make_template, make_user

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def ada(client):
    user = make_user("ada")
    client.force_login(user)
    return user


@pytest.fixture
def template():
    return make_template(name="Debian 12")


def page(request: MachineRequest) -> str:
    return reverse("machines:request", args=[request.key])


def filled(template, **values):
    until = timezone.localdate() + timedelta(days=10)
    return {"template": template.pk, "tier": Tier.objects.first().pk, "reason": "A web server.", "until": until.isoformat(), "token": uuid4(), **values}


def test_a_request_is_asked_for_and_followed(client, ada, template):
    response = client.post(reverse("machines:ask"), filled(template), follow=True)
    request = MachineRequest.objects.get()
    assert response.redirect_chain == [(page(request), 302)]
    assert (request.requester, request.template, request.reason) == (ada, template, "A web server.")
    text = response.content.decode()
    assert "Waiting for a decision" in text and "Staff read your request and decide." in text and "position" not in text
    assert "Debian 12" in client.get(reverse("machines:requests")).content.decode()


def test_the_form_says_what_is_a_container(client, ada, template):
    make_template(template.cluster, ref="alpine", name="Alpine", kind=TemplateKind.CONTAINER)
    text = client.get(reverse("machines:ask")).content.decode()
    assert f"Alpine (Container, {template.cluster})" in text and f"Debian 12 (Virtual machine, {template.cluster})" in text


def test_the_last_day_may_be_left_empty(client, ada, template):
    client.post(reverse("machines:ask"), filled(template, until=""))
    assert MachineRequest.objects.get().until == timezone.localdate() + timedelta(days=approvals.DEFAULT_DAYS)


def test_a_double_click_is_one_request(client, ada, template):
    sent = filled(template)
    one, two = (client.post(reverse("machines:ask"), sent) for _ in range(2))
    assert one.url == two.url and MachineRequest.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reason": ""}, "This field is required."),
        ({"reason": "x" * 1001}, "at most 1000 characters"),
        ({"until": "2020-01-01"}, "Choose a day from today on"),
        ({"until": "soon"}, "Enter a valid date."),
        ({"tier": 0}, "Select a valid choice."),
        ({"token": "no token"}, ""),
    ],
)
def test_what_was_typed_stays_where_something_is_wrong(client, ada, template, wrong, said):
    sent = filled(template, reason="Kept as it was typed.") | wrong
    response = client.post(reverse("machines:ask"), sent)
    text = response.content.decode()
    assert response.status_code == 409 and said in text and not MachineRequest.objects.exists()
    assert sent["reason"] in text and str(sent["until"]) in text


def test_what_is_not_offered_any_more_is_refused_and_nothing_typed_is_lost(client, ada, template):
    sent = filled(template)
    Template.objects.update(active=False)
    other = make_template(template.cluster, ref="other", name="Other")
    response = client.post(reverse("machines:ask"), sent)
    assert response.status_code == 409 and "A web server." in response.content.decode() and other.name in response.content.decode()


def test_too_many_are_refused_and_nothing_typed_is_lost(client, ada, template):
    for _ in range(approvals.OPEN_AT_ONCE):
        make_request(ada, template=template)
    response = client.post(reverse("machines:ask"), filled(template))
    text = response.content.decode()
    assert response.status_code == 409 and "open requests" in text and "A web server." in text


def test_without_a_template_the_form_says_so(client, ada):
    assert "No templates yet" in client.get(reverse("machines:ask")).content.decode()


def test_who_has_asked_for_nothing_is_told_how(client, ada):
    assert "No requests yet" in client.get(reverse("machines:requests")).content.decode()
    assert reverse("machines:ask") in client.get(reverse("machines:mine")).content.decode()


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": RequestState.PENDING}, ["Waiting for a decision", "Withdraw"]),
        ({"state": RequestState.REJECTED, "answer": "Use <b>the</b> class's."}, ["Rejected", "Use &lt;b&gt;the&lt;/b&gt; class&#x27;s.", "Ask for a machine"]),
        ({"state": RequestState.FAILED, "problem": "The storage is broken."}, ["Could not be made", "The storage is broken.", "Staff have been told."]),
        ({"state": RequestState.WITHDRAWN}, ["Withdrawn", "You took this request back."]),
    ],
)
def test_each_state_says_what_it_means(client, ada, headers, fields, said):
    text = client.get(page(make_request(ada, **fields)), **headers).content.decode()
    assert all(sentence in text for sentence in said)


def test_while_it_is_made_the_steps_are_shown_and_heard(client, ada):
    machine = make_machine("ada-1", owner=ada, state=State.PROVISIONING)
    operation = make_operation(machine, kind=Kind.PROVISION, state="running")
    OperationEvent.objects.create(operation=operation, text="Cloning the disk.")
    text = client.get(page(make_request(ada, state=RequestState.APPROVED, machine=machine))).content.decode()
    assert "Approved, being made" in text and "Cloning the disk." in text
    assert f"owner:{ada.pk} machine:{machine.key}" in text and f"operation:{operation.key}" in text


def test_ready_it_leads_to_the_machine_its_address_and_on_demand_its_password(client, ada):
    ssh = [{"service": "ssh", "host": "10.0.0.7", "port": 22, "source": "agent"}]
    machine = make_machine("ada-1", cluster=make_cluster(networks=["10.0.0.0/24"]), owner=ada, state=State.RUNNING, endpoints=ssh, password="secret-word")
    text = client.get(page(make_request(ada, state=RequestState.READY, machine=machine))).content.decode()
    assert "Ready" in text and "ssh student@10.0.0.7" in text and reverse("machines:machine", args=[machine.key]) in text
    assert "secret-word" not in text
    assert "secret-word" in client.post(reverse("machines:credentials", args=[machine.key])).content.decode()
    assert AuditEntry.objects.filter(action="machine.credentials", actor=ada).exists()


def test_past_its_last_day_it_is_said_on_the_request_and_on_the_machine(client, ada):
    machine = make_machine("ada-1", owner=ada)
    yesterday = timezone.localdate() - timedelta(days=1)
    request = make_request(ada, state=RequestState.READY, machine=machine, until=yesterday)
    for url in (page(request), reverse("machines:machine", args=[machine.key])):
        assert "The last day of this machine was" in client.get(url).content.decode()
    assert "Its time is over" in client.get(reverse("machines:requests")).content.decode()


def test_a_machine_that_was_deleted_is_said_to_be(client, ada):
    machine = make_machine("ada-1", owner=ada, state=State.DESTROYED)
    text = client.get(page(make_request(ada, state=RequestState.READY, machine=machine))).content.decode()
    assert "Its machine was deleted" in text and "Open the machine" not in text


def test_a_pending_request_is_withdrawn_after_it_was_asked(client, ada):
    request = make_request(ada)
    url = reverse("machines:withdraw", args=[request.key])
    assert "Withdraw this request" in client.get(url).content.decode()
    assert client.post(url, follow=True).redirect_chain == [(page(request), 302)]
    request.refresh_from_db()
    assert request.state == RequestState.WITHDRAWN


def test_what_was_decided_meanwhile_is_not_withdrawn(client, ada):
    request = make_request(ada, state=RequestState.APPROVED)
    url = reverse("machines:withdraw", args=[request.key])
    assert client.post(url, **HTMX).status_code == 409
    response = client.post(url)
    assert response.status_code == 409 and "This request was decided meanwhile" in response.content.decode()


def test_the_list_costs_the_same_however_many(client, ada, django_assert_max_num_queries):
    for _ in range(20):
        make_request(ada, template=make_template(), machine=make_machine(owner=ada), state=RequestState.READY)
    with django_assert_max_num_queries(11):
        client.get(reverse("machines:requests"))


def test_staff_are_told_how_many_wait_and_others_are_not(client, ada):
    make_request(ada)
    assert "for a decision of staff" not in client.get(reverse("machines:requests")).content.decode()
    client.force_login(make_user("sam", role="staff"))
    text = client.get(reverse("machines:requests")).content.decode()
    assert "1 request waits for a decision of staff." in text and reverse("admin:machines_machinerequest_changelist") in text
