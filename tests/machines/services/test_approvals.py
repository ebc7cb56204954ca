"""Requests from the asking to the machine, through the real engine against the fake cluster."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core import mail
from django.db import connections, transaction
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.services import letters
from machines.lifecycle import Kind, State
from machines.models import Change, Cluster, Machine, MachineRequest, Operation, RequestMail, RequestState, Template, Tier
from machines.providers.errors import NoCapacity, TaskFailed
from machines.providers.proxmox.placement import choose_node
from machines.providers.proxmox.resources import NodeLine
from machines.providers.room import RESERVE_MIB
from machines.selectors import approvals as asked
from machines.services import approvals, outbox, requests, sweep, terms
from machines.services.refusal import Refused
from tests.factories import make_cluster, make_template, make_user

S = RequestState
pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_user("ada.lovelace_1")


@pytest.fixture
def sam():
    return make_user("sam", role="staff")


def silver() -> Tier:
    return Tier.objects.get_or_create(name="Silver", defaults={"cores": 2, "memory_mib": 2048, "disk_gib": 16})[0]


def ask(user, cluster, **fields) -> MachineRequest:
    wanted = {"template": cluster.templates.get(ref="tiny"), "tier": silver(), "reason": "A web server for the course.", "until": None, "token": uuid4()}
    return approvals.ask(user, **{**wanted, **fields})


def refusal(do, *arguments, **fields) -> str:
    with pytest.raises(Refused) as refused:
        do(*arguments, **fields)
    return refused.value.code


def again(request) -> MachineRequest:
    return MachineRequest.objects.get(pk=request.pk)


@pytest.fixture
def finish(carry_on):
    """Let the workers go on until the machine of a request is at rest, and sweep."""

    def run(request) -> MachineRequest:
        machine = again(request).machine
        carry_on(machine.operations.latest("id"))
        sweep.sweep()
        return again(request)

    return run


# -- asking --------------------------------------------------------------------------------------


def test_sizes_come_with_the_portal():
    sizes = [(tier.name, tier.cores, tier.memory_mib, tier.disk_gib) for tier in Tier.objects.all()]
    assert sizes == [("Bronze", 1, 500, 8), ("Silver", 2, 2048, 16), ("Gold", 3, 4096, 28)]


def test_a_request_waits_for_a_decision_and_makes_nothing(cluster, ada):
    request = ask(ada, cluster)
    assert (request.state, request.until) == (S.PENDING, timezone.localdate() + timedelta(days=approvals.DEFAULT_DAYS))
    assert not Machine.objects.exists()
    assert AuditEntry.objects.filter(action="request.ask", actor=ada, object_id=str(request.key)).exists()
    assert Change.objects.filter(topic=f"owner:{ada.pk}").exists()


def test_a_form_sent_twice_is_one_request(cluster, ada):
    token = uuid4()
    assert ask(ada, cluster, token=token) == ask(ada, cluster, token=token)
    assert MachineRequest.objects.count() == 1
    assert ask(make_user("bob"), cluster, token=token).requester.username == "bob"


def test_one_person_has_so_many_open_requests_and_no_more(cluster, ada, sam):
    first, *_others = [ask(ada, cluster) for _ in range(approvals.OPEN_AT_ONCE)]
    assert refusal(ask, ada, cluster) == "too_many"
    ask(make_user("bob"), cluster)
    approvals.reject(first, acting_user=sam, answer="No.")
    ask(ada, cluster)


@pytest.mark.parametrize("days", [-1, approvals.LONGEST_DAYS + 1])
def test_the_last_day_is_bounded(cluster, ada, days):
    assert refusal(ask, ada, cluster, until=timezone.localdate() + timedelta(days=days)) == "until"


@pytest.mark.parametrize("reason", ["", "  \n", "x" * (approvals.LONGEST_REASON + 1)])
def test_why_is_said_and_bounded(cluster, ada, reason):
    assert refusal(ask, ada, cluster, reason=reason) == "reason"


@pytest.mark.parametrize("gone", [{"active": False}, {"present": False}])
def test_only_what_is_offered_may_be_asked_for(cluster, ada, gone):
    Template.objects.update(**gone)
    assert refusal(ask, ada, cluster) == "template_gone"


# -- deciding ------------------------------------------------------------------------------------


def test_approved_it_is_made_by_the_worker_and_ready(cluster, world, ada, sam, finish):
    request = ask(ada, cluster)
    machine = approvals.approve(request, acting_user=sam)
    assert (machine.owner, machine.name, machine.state) == (ada, "adalovelace-1-1", State.PENDING)
    assert (machine.cores, machine.memory_mib, machine.disk_gib) == (2, 2048, 16)
    assert again(request).state == S.APPROVED and world.calls == []  # nothing was asked of the cluster yet
    request = finish(request)
    assert (request.state, request.machine.state, request.decided_by) == (S.READY, State.RUNNING, sam)
    assert len(world.machines) == 1
    actions = AuditEntry.objects.filter(object_id=str(request.key)).order_by("id").values_list("action", flat=True)
    assert list(actions) == ["request.ask", "request.approved", "request.ready"]


def test_machines_of_requests_have_secrets_of_their_own(cluster, ada, sam):
    one, two = (approvals.approve(ask(ada, cluster), acting_user=sam) for _ in range(2))
    assert one.password and one.password != two.password and one.ssh_private_key != two.ssh_private_key
    assert one.name != two.name


def test_approving_twice_makes_one_machine(cluster, ada, sam):
    request = ask(ada, cluster)
    stale = again(request)
    approvals.approve(request, acting_user=sam)
    assert refusal(approvals.approve, stale, acting_user=make_user("sue", role="staff")) == "decided"
    assert refusal(approvals.reject, again(request), acting_user=sam, answer="No.") == "decided"
    assert (Machine.objects.count(), Operation.objects.count()) == (1, 1)
    assert again(request).decided_by == sam


@pytest.mark.parametrize("answer", ["", "   "])
def test_who_is_rejected_reads_why(cluster, ada, sam, answer):
    request = ask(ada, cluster)
    assert refusal(approvals.reject, request, acting_user=sam, answer=answer) == "reason"
    assert again(request).state == S.PENDING
    approvals.reject(request, acting_user=sam, answer="Use the class's machine.")
    assert (again(request).state, again(request).answer) == (S.REJECTED, "Use the class's machine.")
    assert not Machine.objects.exists()


@pytest.mark.parametrize("gone", [{"active": False}, {"present": False}])
def test_what_is_gone_cannot_be_approved_and_the_request_stays(cluster, ada, sam, gone):
    request = ask(ada, cluster)
    Template.objects.update(**gone)
    assert refusal(approvals.approve, again(request), acting_user=sam) == "template_gone"
    assert again(request).state == S.PENDING and not Machine.objects.exists() and not RequestMail.objects.exists()


def test_nobody_gets_a_machine_whose_account_is_closed(cluster, ada, sam):
    request = ask(ada, cluster)
    type(ada).objects.filter(pk=ada.pk).update(is_active=False)
    assert refusal(approvals.approve, again(request), acting_user=sam) == "closed"


def test_withdrawn_it_cannot_be_approved(cluster, ada, sam):
    request = ask(ada, cluster)
    approvals.withdraw(request, acting_user=ada)
    approvals.withdraw(request, acting_user=ada)
    assert refusal(approvals.approve, request, acting_user=sam) == "decided"
    assert again(request).state == S.WITHDRAWN


def test_approved_it_cannot_be_withdrawn(cluster, ada, sam):
    request = ask(ada, cluster)
    approvals.approve(request, acting_user=sam)
    assert refusal(approvals.withdraw, request, acting_user=ada) == "decided"


# -- what cannot be made -------------------------------------------------------------------------


@pytest.fixture
def failed(cluster, world, ada, sam, finish):
    """Made, and it could not be started."""

    def broken(_point: str, verb: str) -> None:
        if verb == "start":
            raise TaskFailed("no", message="The storage is broken.")

    well, world.at = world.at, broken
    request = ask(ada, cluster)
    approvals.approve(request, acting_user=sam)
    request = finish(request)
    world.at = well
    return request


def test_what_could_not_be_made_returns_to_the_queue_with_its_reason(failed):
    assert (failed.state, failed.machine.state) == (S.FAILED, State.FAILED)
    assert failed.problem == failed.machine.problem == "The storage is broken."
    assert failed.can_be_decided


def test_approved_again_the_same_machine_is_made(failed, world, sam, finish):
    first = failed.machine
    assert approvals.approve(failed, acting_user=sam) == first
    request = finish(failed)
    assert (request.state, request.machine, request.machine.state, request.problem) == (S.READY, first, State.RUNNING, "")
    assert (Machine.objects.count(), len(world.machines)) == (1, 1)


@pytest.mark.parametrize("end", ["reject", "withdraw"])
def test_given_up_what_was_half_made_is_removed(failed, world, sam, ada, finish, end):
    if end == "reject":
        approvals.reject(failed, acting_user=sam, answer="There is no room.")
    else:
        approvals.withdraw(failed, acting_user=ada)
    request = finish(failed)
    assert request.state == (S.REJECTED if end == "reject" else S.WITHDRAWN)
    assert request.machine.state == State.DESTROYED and not world.machines


def test_whose_machine_was_deleted_gets_a_new_one(failed, sam, finish):
    requests.destroy(failed.machine, acting_user=sam)
    request = finish(failed)
    assert request.state == S.FAILED
    machine = approvals.approve(request, acting_user=sam)
    assert machine != failed.machine and finish(request).state == S.READY


def test_tried_again_on_the_machines_own_page_the_request_follows(failed, ada, finish):
    requests.retry(failed.machine, acting_user=ada)
    sweep.sweep()
    assert again(failed).state == S.APPROVED
    assert finish(failed).state == S.READY


def test_cancelled_while_it_is_made_it_returns_to_the_queue(cluster, ada, sam):
    request = ask(ada, cluster)
    machine = approvals.approve(request, acting_user=sam)
    requests.cancel(machine.operations.get(), acting_user=ada)
    sweep.sweep()
    assert again(request).state == S.FAILED and again(request).problem == "Making this machine was cancelled."


def test_a_request_follows_at_once_where_nothing_crashes(cluster, ada, sam, carry_on, django_capture_on_commit_callbacks):
    request = ask(ada, cluster)
    machine = approvals.approve(request, acting_user=sam)
    sweep.SWEEPS.remove(approvals.mend)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            carry_on(machine.operations.get())
    finally:
        sweep.SWEEPS.append(approvals.mend)
    assert again(request).state == S.READY


# -- two at once ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_approved_by_many_at_once_one_machine_is_made(file_database):
    _at_once()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_approved_by_many_at_once_one_machine_is_made_on_a_server(db):
    from django.db import connection

    if connection.vendor != "postgresql":
        pytest.skip("TEST_DATABASE_URL names no PostgreSQL")
    _at_once()


def _at_once() -> None:
    cluster = make_cluster("there", kind="fake")
    make_template(cluster, ref="tiny")
    request, staff = ask(make_user("ada"), cluster), [make_user(f"staff{number}", role="staff") for number in range(4)]
    gate, results = threading.Barrier(len(staff)), []

    def approve(user) -> None:
        try:
            mine = again(request)
            gate.wait(10)
            results.append(approvals.approve(mine, acting_user=user))
        except Refused as refused:
            results.append(refused.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=approve, args=[user]) for user in staff]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, results)) == ["ada-1", *["decided"] * 3]
    assert Machine.objects.count() == Operation.objects.filter(kind=Kind.PROVISION).count() == 1


@pytest.mark.django_db(transaction=True)
def test_asked_by_many_clicks_at_once_it_is_one_request(file_database):
    cluster, ada, token = make_cluster("there", kind="fake"), make_user("ada"), uuid4()
    make_template(cluster, ref="tiny")
    silver()
    gate, results = threading.Barrier(4), []

    def click() -> None:
        try:
            gate.wait(10)
            results.append(ask(ada, cluster, token=token).pk)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 4 and len(set(results)) == 1


# -- mails ---------------------------------------------------------------------------------------


def send(cluster) -> list[tuple[str, str]]:
    mail.outbox.clear()
    outbox.send_due([cluster.pk])
    return [(letter.to[0], letter.subject) for letter in mail.outbox]


def test_each_decision_is_mailed_and_that_it_is_ready(cluster, world, ada, sam, finish):
    request = ask(ada, cluster)
    approvals.approve(request, acting_user=sam, answer="Have fun.")
    assert mail.outbox == []  # the decision itself sends nothing
    assert send(cluster) == [(ada.email, "[labportal] Your request was approved: tiny, Silver")]
    assert "Staff wrote: Have fun." in mail.outbox[0].body and f"/requests/{request.key}/" in mail.outbox[0].body
    machine = finish(request).machine
    assert send(cluster) == [(ada.email, f"[labportal] Your machine is ready: {machine}")]
    assert machine.password not in mail.outbox[0].body
    assert send(cluster) == []


def test_the_reason_of_a_rejection_is_mailed_as_it_was_written(cluster, ada, sam):
    approvals.reject(ask(ada, cluster), acting_user=sam, answer="Use <class> & co.\nAsk Bob.")
    send(cluster)
    assert "Use <class> & co.\nAsk Bob." in mail.outbox[0].body


def test_of_a_failure_the_person_and_staff_are_told(cluster, failed, ada, sam):
    told = send(cluster)[1:]
    assert {address for address, _subject in told} == {ada.email, sam.email}
    assert all("The storage is broken." in letter.body for letter in mail.outbox[1:])


def test_a_name_with_a_line_break_writes_no_header(cluster, ada, sam):
    Template.objects.update(name="tiny\nBcc: eve@uni.test")
    approvals.approve(ask(ada, cluster), acting_user=sam)
    send(cluster)
    assert all("\n" not in letter.subject and letter.bcc == [] for letter in mail.outbox)


def test_a_mail_server_that_is_away_loses_no_mail_and_no_decision(cluster, ada, sam, monkeypatch):
    def away(*_arguments, **_fields):
        raise ConnectionRefusedError("nobody answers")

    request = ask(ada, cluster)
    approvals.approve(request, acting_user=sam)
    with monkeypatch.context() as patched:
        patched.setattr(letters, "send_mail", away)
        assert send(cluster) == []
    letter = RequestMail.objects.get()
    assert (letter.sent_at, letter.attempts, letter.problem) == (None, 1, "nobody answers")
    assert letter.not_before > timezone.now() and again(request).state == S.APPROVED
    RequestMail.objects.update(not_before=timezone.now())
    assert len(send(cluster)) == 1


def test_a_mail_that_somebody_sends_is_not_sent_by_another(cluster, ada, sam, monkeypatch):
    approvals.approve(ask(ada, cluster), acting_user=sam)
    seen = []

    def sending(*arguments, **_fields):
        seen.append(arguments)
        outbox.send_due([cluster.pk])  # another watcher looks meanwhile

    monkeypatch.setattr(letters, "send_mail", sending)
    outbox.send_due([cluster.pk])
    assert len(seen) == 1


def test_no_mail_is_written_where_none_is_sent(cluster, ada, sam, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    approvals.approve(ask(ada, cluster), acting_user=sam)
    assert not RequestMail.objects.exists()


def test_mails_of_a_change_that_is_taken_back_are_never_sent(cluster, ada, sam):
    request = ask(ada, cluster)
    with transaction.atomic():
        approvals.approve(request, acting_user=sam)
        transaction.set_rollback(True)
    assert send(cluster) == [] and not RequestMail.objects.exists()


# -- until when ----------------------------------------------------------------------------------


@pytest.fixture
def ready(cluster, ada, sam, finish):
    request = ask(ada, cluster)
    approvals.approve(request, acting_user=sam)
    request = finish(request)
    send(cluster)
    return request


def lasts(request, days: int) -> MachineRequest:
    MachineRequest.objects.filter(pk=request.pk).update(until=timezone.localdate() + timedelta(days=days))
    return again(request)


@pytest.mark.parametrize(("days", "told"), [(8, 0), (7, 1), (0, 1), (-1, 0)])
def test_a_week_before_the_end_the_person_is_reminded_once(cluster, ready, days, told):
    MachineRequest.objects.update(decided_at=timezone.now() - timedelta(days=60))
    lasts(ready, days)
    terms.remind()
    terms.remind()
    assert len(send(cluster)) == told


def test_who_asked_for_a_few_days_is_not_reminded(cluster, ready):
    lasts(ready, 3)
    terms.remind()
    assert send(cluster) == []


def test_past_its_last_day_a_machine_is_shut_down_and_not_deleted(cluster, world, ready, finish):
    assert terms.shut_down_over() == 0
    over = lasts(ready, -1)
    assert over.is_over
    assert terms.shut_down_over() == 1
    over = finish(ready)
    assert (over.machine.state, over.state) == (State.STOPPED, S.READY) and len(world.machines) == 1
    assert over.ended_at is not None
    assert [subject for _to, subject in send(cluster)] == [f"[labportal] {over.machine} was shut down"]
    assert list(asked.over(MachineRequest.objects.all())) == [over]
    assert "last day has passed" in over.machine.operations.latest("id").events.first().text


def test_started_again_after_its_last_day_it_is_shut_down_again_without_another_mail(cluster, ready, ada, finish):
    lasts(ready, -1)
    terms.shut_down_over()
    finish(ready)
    requests.start(again(ready).machine, acting_user=ada)
    finish(ready)
    finish(ready)
    assert again(ready).machine.state == State.STOPPED
    assert len(send(cluster)) == 1


def test_given_more_time_it_may_be_on(ready, ada, sam, finish):
    lasts(ready, -1)
    terms.shut_down_over()
    finish(ready)
    terms.set_until(again(ready), timezone.localdate() + timedelta(days=30), acting_user=sam)
    requests.start(again(ready).machine, acting_user=ada)
    request = finish(ready)
    assert request.machine.state == State.RUNNING and not request.is_over and request.ended_at is None
    assert AuditEntry.objects.filter(action="request.until", actor=sam).exists()


# -- what a cluster has free -----------------------------------------------------------------------


def room(request) -> asked.Verdict:
    return asked.Rooms().of(request.template.cluster).after([request])


def test_without_a_host_nothing_is_known_of_the_room(cluster, ada):
    verdict = room(ask(ada, cluster))
    assert (verdict.tone, verdict.memory_left) == ("unknown", None)


@pytest.mark.parametrize(("free", "tone", "left"), [(16384, "enough", 12288), (5000, "tight", 904), (4000, "full", -96)])
def test_what_is_free_after_counts_the_reserve_and_the_machine(cluster, ada, free, tone, left):
    cluster.config = {"reserve_mib": 2048}
    cluster.save()
    cluster.nodes.create(name="pve1", cores=8, memory_total_mib=32768, memory_free_mib=free)
    cluster.nodes.create(name="pve2", cores=8, memory_total_mib=32768, memory_free_mib=1, online=False)
    verdict = room(ask(ada, cluster))
    assert (verdict.tone, verdict.memory_left, verdict.room.cores) == (tone, left, 8)


def test_no_machine_is_spread_over_two_hosts(cluster, ada):
    for name in ("pve1", "pve2", "pve3"):
        cluster.nodes.create(name=name, cores=4, memory_total_mib=4096, memory_free_mib=1500)
    assert room(ask(ada, cluster)).tone == "full"


def test_several_machines_each_need_a_host(cluster, ada):
    for name in ("pve1", "pve2", "pve3"):
        cluster.nodes.create(name=name, cores=4, memory_total_mib=4096, memory_free_mib=3000)
    requests = [*(ask(ada, cluster) for _ in range(3)), ask(make_user("bea"), cluster)]
    of = asked.Rooms().of(cluster)
    assert [of.after(requests[:count]).tone == "full" for count in (3, 4)] == [False, True]


def test_the_largest_host_is_counted_without_what_is_coming(cluster, ada, sam):
    for name, free in (("pve1", 5000), ("pve2", 3000)):
        cluster.nodes.create(name=name, cores=4, memory_total_mib=8192, memory_free_mib=free)
    assert asked.Rooms().of(cluster).memory.largest == 5000
    approvals.approve(ask(ada, cluster), acting_user=sam)
    memory = asked.Rooms().of(cluster).memory
    assert (memory.largest, memory.free) == (3000, 8000 - 2048)


def test_what_is_said_to_be_free_is_what_machines_are_made_on(cluster, ada):
    """The reserve that counts where staff gave none, and only the nodes that may be used."""
    Cluster.objects.filter(pk=cluster.pk).update(kind="proxmox", config={"nodes": ["pve1"]})
    for name in ("pve1", "pve2"):
        cluster.nodes.create(name=name, cores=8, memory_total_mib=32768, memory_free_mib=10000)
    of = asked.Rooms().of(Cluster.objects.get(pk=cluster.pk))
    assert (of.memory.free, of.memory.total, of.cores) == (10000 - RESERVE_MIB, 32768, 8)
    assert choose_node({"pve1": NodeLine("pve1", True, free_mib=10000)}, of.memory.free, reachable=["pve1"]) == "pve1"
    with pytest.raises(NoCapacity):
        choose_node({"pve1": NodeLine("pve1", True, free_mib=10000)}, of.memory.free + 1, reachable=["pve1"])


def test_what_is_being_made_is_not_free_any_more(cluster, ada, sam):
    cluster.nodes.create(name="pve1", cores=8, memory_total_mib=32768, memory_free_mib=8192)
    approvals.approve(ask(ada, cluster), acting_user=sam)
    assert room(ask(ada, cluster)).memory_left == 8192 - 2 * 2048
