"""What a person may have outside classes, where they ask, where staff approve and where a machine grows."""

import threading
from uuid import uuid4

import pytest
from django.db import connections
from django.urls import reverse
from django.utils import timezone

from accounts.models import RolePolicy
from machines.lifecycle import State
from machines.models import Machine, MachineRequest, RequestState, Tier
from machines.selectors.quotas import quota_of
from machines.services import approvals, requests
from machines.services.refusal import Refused
from tests.classes.rows import enrol, machine_of, make_class, make_place
from tests.factories import make_machine, make_request, make_template, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_user("ada", max_machines=2, max_cores=4)


@pytest.fixture
def silver():
    return Tier.objects.get_or_create(name="Silver", defaults={"cores": 2, "memory_mib": 2048, "disk_gib": 16})[0]


def ask(user, tier, template=None) -> MachineRequest:
    return approvals.ask(user, template=template or make_template(), tier=tier, reason="A web server.", until=None, token=uuid4())


def refusal(do, *arguments, **fields) -> Refused:
    with pytest.raises(Refused) as refused:
        do(*arguments, **fields)
    assert refused.value.code == "quota"
    return refused.value


def figures(user) -> list[str]:
    return [str(share) for share in quota_of(user)]


def test_own_limits_count_before_those_of_the_role(ada):
    RolePolicy.objects.create(role="student", max_machines=9, max_memory_mib=4096)
    make_machine(owner=ada, cores=1, memory_mib=512)
    assert figures(ada) == ["1 of 2 machines", "1 of 4 cores", "512 MiB of 4 GiB memory"]
    teacher = make_user(role="teacher")
    assert figures(teacher) == ["0 machines", "0 cores", "0 MiB memory"] and not quota_of(teacher).limited


def test_a_limit_of_none_at_all_is_one(silver):
    assert refusal(ask, make_user(max_machines=0), silver)


def test_machines_of_classes_and_deleted_ones_do_not_count(ada):
    lab_class = make_class()
    make_place(lab_class)
    assert machine_of(enrol(lab_class, ada)).owner == ada
    make_machine(owner=ada, state=State.DESTROYED)
    assert figures(ada)[0] == "0 of 2 machines"
    make_machine(owner=ada, state=State.FAILED)
    assert figures(ada)[0] == "1 of 2 machines"


def test_asking_says_what_is_used_and_what_to_do(ada, silver):
    make_machine(owner=ada, cores=3)
    assert refusal(ask, ada, silver).message == (
        "This is more than you may have: you use 3 of 4 cores. Choose a smaller size, or ask staff for a higher limit."
    )
    make_machine(owner=ada, cores=1)
    assert "2 of 2 machines and 4 of 4 cores. Tell staff which machine" in refusal(ask, ada, silver).message
    assert not MachineRequest.objects.exists()


def test_staff_raise_the_limit_before_they_approve(ada, silver):
    sam = make_user("sam", role="staff")
    request = make_request(ada, tier=silver)
    make_machine(owner=ada)
    make_machine(owner=ada)
    assert "2 of 2 machines are used. Raise the limit on the person's page" in refusal(approvals.approve, request, acting_user=sam).message
    assert MachineRequest.objects.get().state == RequestState.PENDING and Machine.objects.count() == 2
    ada.max_machines = 3
    ada.save()
    assert approvals.approve(request, acting_user=sam).owner == ada
    assert figures(ada)[0] == "3 of 3 machines"


def test_what_is_tried_again_counts_once(ada, silver):
    sam = make_user("sam", role="staff")
    half_made = make_machine(owner=ada, state=State.FAILED, cores=4)
    make_machine(owner=ada, cores=0)
    request = make_request(ada, tier=silver, state="failed", machine=half_made)
    assert approvals.approve(request, acting_user=sam) == half_made


def test_a_machine_grows_within_the_limit(ada, silver):
    sam = make_user("sam", role="staff")
    machine = make_machine("web", owner=ada, cores=2, memory_mib=1024)
    make_machine(owner=ada, cores=1)
    refused = refusal(requests.resize, machine, acting_user=sam, cores=4, memory_mib=1024)
    assert "3 of 4 cores are used" in refused.message
    ada.max_cores = 1  # lowered afterwards: nothing is taken away, and less is never refused
    ada.save()
    assert requests.resize(machine, acting_user=sam, cores=1, memory_mib=4096)


def test_what_is_about_to_grow_counts_already(ada, silver):
    sam = make_user("sam", role="staff")
    one, other = (make_machine(owner=ada, cores=1, memory_mib=512) for _ in range(2))
    growing = requests.resize(one, acting_user=sam, cores=3, memory_mib=512)
    assert figures(ada)[1] == "4 of 4 cores"
    assert "4 of 4 cores are used" in refusal(requests.resize, other, acting_user=sam, cores=3, memory_mib=512).message
    assert requests.resize(one, acting_user=sam, cores=3, memory_mib=512) == growing  # asked twice, it is one
    requests.cancel(growing, acting_user=sam)
    assert requests.resize(other, acting_user=sam, cores=3, memory_mib=512)


def test_nothing_is_approved_for_what_is_about_to_be_used(silver):
    sam, eve = make_user("sam", role="staff"), make_user("eve", max_cores=4)
    requests.resize(make_machine(owner=eve, cores=1), acting_user=sam, cores=3, memory_mib=512)
    assert refusal(approvals.approve, make_request(eve, tier=silver), acting_user=sam)


def test_what_is_about_to_shrink_counts_until_it_has(ada):
    requests.resize(make_machine(owner=ada, cores=3), acting_user=make_user(role="staff"), cores=1, memory_mib=512)
    assert figures(ada)[1] == "3 of 4 cores"


def test_what_is_used_is_read_at_once(ada, django_assert_num_queries):
    for _ in range(3):
        requests.resize(make_machine(owner=ada), acting_user=None, cores=2, memory_mib=512)
    with django_assert_num_queries(2):
        assert figures(ada)[1] == "6 of 4 cores"


def test_a_machine_of_a_class_grows_as_its_class_needs(ada):
    lab_class = make_class()
    make_place(lab_class)
    machine = machine_of(enrol(lab_class, ada))
    assert requests.resize(machine, acting_user=make_user(role="staff"), cores=8, memory_mib=512)


@pytest.mark.django_db(transaction=True)
def test_two_approvals_at_once_do_not_both_take_the_last_room(ada):
    sam, template = make_user("sam", role="staff"), make_template()
    make_machine(owner=ada, template=template)
    wishes = [make_request(ada, template=template) for _ in range(2)]
    barrier, refused = threading.Barrier(2), []

    def approve(request):
        barrier.wait()
        try:
            approvals.approve(request, acting_user=sam)
        except Refused as refusal:
            refused.append(refusal.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=approve, args=[MachineRequest.objects.get(pk=wish.pk)]) for wish in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["quota"]
    assert Machine.objects.filter(owner=ada).count() == 2


def test_people_see_what_they_use(client, ada):
    make_machine(owner=ada)
    client.force_login(ada)
    for page in ("machines:requests", "machines:ask"):
        assert "1 of 2 machines" in client.get(reverse(page)).content.decode()
    client.force_login(make_user())
    assert "Your limits" not in client.get(reverse("machines:ask")).content.decode()


def test_staff_see_it_where_they_decide(client, ada, silver):
    make_machine(owner=ada, cores=3)
    client.force_login(make_user(role="staff"))
    request = make_request(ada, tier=silver)
    page = client.get(reverse("admin:machines_machinerequest_change", args=[request.pk])).content.decode()
    assert "3 of 4 cores" in page and "Beyond the limit" in page
    assert reverse("admin:accounts_user_change", args=[ada.pk]) + "#id_max_machines" in page
    client.post(reverse("admin:machines_machinerequest_change", args=[request.pk]), {"until": timezone.localdate(), "answer": "", "_approve": "1"}, follow=True)
    assert MachineRequest.objects.get().state == RequestState.PENDING
