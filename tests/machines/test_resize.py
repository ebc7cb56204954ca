"""Who may make a machine how large: staff as they like, others in the sizes that are offered, and never above what they were given."""

import pytest
from django.urls import reverse

from machines.lifecycle import State
from machines.models import Operation, Tier
from machines.services import requests
from machines.services.refusal import Refused
from tests.classes.rows import make_class, make_place
from tests.factories import make_machine, make_request, make_template, make_user

pytestmark = pytest.mark.django_db
BRONZE, SILVER, GOLD = (1, 512, 8), (2, 2048, 16), (4, 4096, 32)


@pytest.fixture(autouse=True)
def tiers():
    Tier.objects.all().delete()
    for name, (cores, memory_mib, disk_gib) in {"Bronze": BRONZE, "Silver": SILVER, "Gold": GOLD}.items():
        Tier.objects.create(name=name, cores=cores, memory_mib=memory_mib, disk_gib=disk_gib, position=cores)


@pytest.fixture
def ada(client):
    user = make_user("ada")
    client.force_login(user)
    return user


def silver_of(owner, **fields):
    """A machine that was asked for in Silver, and is off."""
    cores, memory_mib, disk_gib = SILVER
    machine = make_machine("web", owner=owner, state=State.STOPPED, cores=cores, memory_mib=memory_mib, disk_gib=disk_gib, **fields)
    make_request(owner, template=machine.template, state="ready", machine=machine)
    return machine


def url(machine):
    return reverse("machines:resize", args=[machine.key])


def asked_for():
    return {name: Operation.objects.get().params[name] for name in ("cores", "memory_mib", "disk_gib")}


def test_who_asked_for_a_machine_chooses_up_to_the_size_that_was_given(client, ada):
    machine = silver_of(ada)
    page = client.get(reverse("machines:machine", args=[machine.key])).content.decode()
    assert url(machine) in page
    text = client.get(url(machine)).content.decode()
    assert "Bronze: 1 core" in text and "Silver: 2 cores" in text and "Gold" not in text and 'name="cores"' not in text
    assert client.post(url(machine), {"tier": Tier.objects.get(name="Gold").pk}).status_code == 409
    assert client.post(url(machine), {"cores": 64, "memory_mib": 65536}).status_code == 409
    assert not Operation.objects.exists()
    assert client.post(url(machine), {"tier": Tier.objects.get(name="Bronze").pk}).status_code == 302
    assert asked_for() == {"cores": 1, "memory_mib": 512, "disk_gib": None}  # no disk shrinks


@pytest.mark.parametrize("size", [GOLD, (2, 4096, None), (3, 2048, None), (2, 2048, 17), (128, 4 * 1024 * 1024, None)])
def test_whatever_way_it_is_asked_nobody_gets_above_that(ada, size):
    machine = silver_of(ada)
    cores, memory_mib, disk_gib = size
    with pytest.raises(Refused, match=r"web may be of these sizes: Bronze, Silver\. For more, ask staff\."):
        requests.resize(machine, acting_user=ada, cores=cores, memory_mib=memory_mib, disk_gib=disk_gib)
    assert not Operation.objects.exists()


def test_a_size_that_is_not_offered_any_more_is_kept_and_no_other_of_those(ada):
    machine = silver_of(ada)
    machine.template.tiers.set(Tier.objects.filter(name="Gold"))
    with pytest.raises(Refused, match=r"these sizes: Silver\."):
        requests.resize(machine, acting_user=ada, cores=1, memory_mib=512)
    assert requests.resize(machine, acting_user=ada, cores=2, memory_mib=2048)


def test_a_teacher_chooses_among_the_sizes_of_the_template_and_the_student_not(client):
    teacher, student = make_user("tea", role="teacher"), make_user("stu")
    place = make_place(make_class("Web", teacher=teacher), state=State.STOPPED, disk_gib=8)
    machine = place.machine
    type(machine).objects.update(owner=student)
    machine.template.tiers.set(Tier.objects.exclude(name="Gold"))
    client.force_login(student)
    assert client.get(url(machine)).status_code == 403
    with pytest.raises(Refused, match="Only staff"):
        requests.resize(machine, acting_user=student, cores=1, memory_mib=512)
    client.force_login(teacher)
    assert "Gold" not in client.get(url(machine)).content.decode()
    assert client.post(url(machine), {"tier": Tier.objects.get(name="Silver").pk}).status_code == 302
    assert asked_for() == {"cores": 2, "memory_mib": 2048, "disk_gib": 16}


def test_what_was_there_before_is_resized_by_staff_alone(client):
    teacher = make_user("tea", role="teacher")
    client.force_login(teacher)
    machine = make_machine(template=make_template(), owner=teacher, state=State.STOPPED, adopted=True, may_destroy=True)
    assert client.get(url(machine)).status_code == 403


def test_staff_enter_any_numbers(client, ada):
    machine = silver_of(ada)
    client.force_login(make_user("sam", role="staff"))
    assert client.post(url(machine), {"cores": 7, "memory_mib": 5000, "disk_gib": 40}).status_code == 302
    assert asked_for() == {"cores": 7, "memory_mib": 5000, "disk_gib": 40}
