"""Pages of classes: who sees what, and what a click does."""

import pytest
from django.http import Http404
from django.urls import reverse

from accounts.models import Role
from classes import selectors
from classes.models import LabClass, PoolMachine
from classes.services import classes as class_services
from classes.services import pool
from machines.lifecycle import Kind, State
from machines.models import Batch, Machine, Operation, Tier
from machines.policies import access_machine
from tests.classes.rows import add_machines, enrol, make_class, make_invite, make_place
from tests.factories import make_template, make_user

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def lab_class():
    return make_class()


@pytest.fixture
def teacher(client, lab_class):
    client.force_login(lab_class.teacher)
    return client


def at(name, lab_class, *more):
    return reverse(f"classes:{name}", args=[lab_class.key, *more])


def act(lab_class, verb):
    return at("act", lab_class, verb)


# -- who sees what -----------------------------------------------------------------------------


def test_a_class_does_not_exist_for_strangers_and_cannot_be_run_by_its_students(client, lab_class):
    make_place(lab_class)
    invite = make_invite(lab_class)
    student = enrol(lab_class).student
    batch = pool.add_machines(lab_class, 1, acting_user=lab_class.teacher)
    machine = lab_class.pool.first().machine
    run = [
        at("edit", lab_class),
        at("archive", lab_class),
        at("add_machines", lab_class),
        act(lab_class, "remove"),
        at("remove_students", lab_class),
        at("new_invite", lab_class),
        at("revoke", lab_class, invite.pk),
    ]
    posts = [at("restore", lab_class), at("retry", lab_class, machine.key), act(lab_class, "start")]
    for person, status in ((make_user(role=Role.TEACHER), 404), (make_user(), 404), (student, 403)):
        client.force_login(person)
        assert [client.get(url).status_code for url in run] == [status] * len(run)
        assert [client.post(url).status_code for url in run + posts] == [status] * len(run + posts)
        assert client.get(at("project", lab_class, invite.pk)).status_code == status
        assert client.get(reverse("classes:batch", args=[batch.key])).status_code == 404
        assert client.get(at("lab_class", lab_class)).status_code == (200 if person == student else 404)
    assert client.get(reverse("classes:new")).status_code == 403
    for person in (lab_class.teacher, make_user(role=Role.STAFF)):
        client.force_login(person)
        assert {client.get(url).status_code for url in [*run[:3], *run[5:], at("lab_class", lab_class), reverse("classes:batch", args=[batch.key])]} == {200}


def test_nobody_sees_a_class_without_signing_in(client, lab_class):
    answer = client.get(at("lab_class", lab_class))
    assert answer.status_code == 302 and answer.url.startswith(reverse("account_login"))


def test_a_teacher_drives_the_machines_of_their_class_and_nobody_elses(lab_class):
    theirs, other = make_place(lab_class).machine, make_place(make_class("Other")).machine
    assert access_machine(lab_class.teacher, theirs.key) == theirs
    for person, machine in ((lab_class.teacher, other), (make_user(role=Role.TEACHER), theirs), (make_user(), theirs)):
        with pytest.raises(Http404):
            access_machine(person, machine.key)


def test_a_teacher_who_teaches_no_more_sees_nothing_of_it(client, lab_class):
    machine = make_place(lab_class).machine
    lab_class.teacher.role = Role.STUDENT
    lab_class.teacher.save()
    client.force_login(lab_class.teacher)
    assert client.get(at("lab_class", lab_class)).status_code == 404
    assert client.get(reverse("machines:machine", args=[machine.key])).status_code == 404


def test_a_student_who_was_removed_loses_the_machine_at_once(client, lab_class):
    machine = make_place(lab_class).machine
    student = enrol(lab_class).student
    client.force_login(student)
    page = reverse("machines:machine", args=[machine.key])
    assert client.get(page).status_code == 200
    client.post(at("leave", lab_class))
    assert client.get(page).status_code == 404
    assert client.get(at("lab_class", lab_class)).status_code == 404


def test_students_see_their_own_machine_and_nobody_elses(client, lab_class):
    mine, theirs = make_place(lab_class), make_place(lab_class)
    student, other = enrol(lab_class).student, enrol(lab_class).student
    client.force_login(student)
    page = client.get(at("lab_class", lab_class)).content.decode()
    assert mine.machine.name in page
    assert theirs.machine.name not in page and other.username not in page


# -- lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.STUDENT, Role.TEACHER, Role.STAFF])
def test_an_empty_list_says_what_to_do(client, role):
    client.force_login(make_user(role=role))
    page = client.get(reverse("classes:list"))
    assert "No classes yet" in page.content.decode()


def test_an_empty_class_says_what_to_do(teacher, lab_class):
    page = teacher.get(at("lab_class", lab_class)).content.decode()
    assert "No machines yet" in page and "Nobody can join yet" in page


def test_the_class_page_costs_the_same_for_a_few_machines_and_for_many(teacher, lab_class, django_assert_max_num_queries):
    def queries() -> int:
        with django_assert_max_num_queries(30) as counted:
            assert teacher.get(at("lab_class", lab_class)).status_code == 200
        return len(counted)

    def grow(count: int) -> None:
        make_invite(lab_class)
        for _ in range(count):
            make_place(lab_class, state=State.FAILED), make_place(lab_class)
            enrol(lab_class)
        for _ in range(2):
            enrol(lab_class)
        add_machines(lab_class, 3)

    grow(2)
    few = queries()
    grow(20)
    assert queries() == few


def test_the_table_is_paged_searched_and_sorted(teacher, lab_class):
    for _ in range(52):
        make_place(lab_class)
    student = enrol(lab_class, make_user("ada", first_name="Ada", last_name="Lovelace")).student
    url = at("lab_class", lab_class)
    assert "web-basics-51" not in teacher.get(url).content.decode()
    assert "web-basics-51" in teacher.get(url, {"page": 2}).content.decode()
    found = teacher.get(url, {"q": "lovelace"}).context["page"]
    assert [place.enrolment.student for place in found] == [student]
    assert all(place.enrolment is None for place in teacher.get(url, {"show": "free"}).context["page"])
    for sort in (*selectors.SORT, "nonsense"):
        assert teacher.get(url, {"sort": sort}).status_code == 200
    assert "Nothing found" in teacher.get(url, {"q": "nobody"}).content.decode()


def test_htmx_gets_the_fragment_alone(teacher, lab_class):
    make_place(lab_class)
    for url in (at("lab_class", lab_class), reverse("classes:list")):
        fragment = teacher.get(url, **HTMX).content.decode()
        assert "<html" not in fragment and "data-live=" in fragment


# -- making and changing -----------------------------------------------------------------------


def test_a_teacher_makes_a_class_with_machines(client):
    teacher, template = make_user(role=Role.TEACHER), make_template(cores=2, memory_mib=1024)
    client.force_login(teacher)
    answer = client.post(reverse("classes:new"), {"name": "Databases", "template": template.pk, "size": "template", "machines": 2})
    made = LabClass.objects.get()
    assert answer.url == at("lab_class", made)
    assert (made.teacher, made.cores, made.memory_mib, made.pool.count()) == (teacher, 2, 1024, 2)


def test_the_size_may_be_a_tier(client):
    template, tier = make_template(), Tier.objects.create(name="Large", cores=4, memory_mib=4096, disk_gib=20)
    client.force_login(make_user(role=Role.TEACHER))
    client.post(reverse("classes:new"), {"name": "Databases", "template": template.pk, "size": f"tier:{tier.pk}", "machines": 0})
    made = LabClass.objects.get()
    assert (made.cores, made.memory_mib, made.disk_gib) == (4, 4096, 20)


def test_templates_that_are_not_offered_cannot_be_chosen(client):
    hidden, gone = make_template(active=False), make_template(present=False)
    client.force_login(make_user(role=Role.TEACHER))
    for template in (hidden, gone):
        answer = client.post(reverse("classes:new"), {"name": "X", "template": template.pk, "size": "template", "machines": 0})
        assert answer.status_code == 409
    assert not LabClass.objects.exists()


def test_editing_keeps_the_size_unless_another_is_chosen(teacher, lab_class):
    LabClass.objects.update(cores=3, memory_mib=768)
    teacher.post(at("edit", lab_class), {"name": "Web", "template": lab_class.template_id, "size": "now"})
    lab_class.refresh_from_db()
    assert (lab_class.name, lab_class.cores, lab_class.memory_mib) == ("Web", 3, 768)


def test_archiving_asks_and_can_be_taken_back(teacher, lab_class):
    assert "invites stop working" in teacher.get(at("archive", lab_class)).content.decode()
    assert LabClass.objects.get().archived_at is None
    teacher.post(at("archive", lab_class))
    assert "This class is archived" in teacher.get(at("lab_class", lab_class)).content.decode()
    assert teacher.post(at("add_machines", lab_class), {"count": 1}).status_code == 409
    teacher.post(at("restore", lab_class))
    assert LabClass.objects.get().archived_at is None


@pytest.mark.parametrize("count", ["", "0", "201", "x"])
def test_a_wrong_number_of_machines_is_said(teacher, lab_class, count):
    assert teacher.post(at("add_machines", lab_class), {"count": count}).status_code == 409
    assert not Machine.objects.exists()


def test_machines_beyond_what_a_class_may_have_are_refused_in_words(teacher, lab_class, settings):
    settings.CLASS_MAX_MACHINES = 2
    answer = teacher.post(at("add_machines", lab_class), {"count": 3})
    assert answer.status_code == 409 and "a class has at most 2" in answer.content.decode()
    assert not Machine.objects.exists()


def test_adding_machines_offers_as_many_as_students_wait(teacher, lab_class):
    for _ in range(3):
        enrol(lab_class)
    assert teacher.get(at("add_machines", lab_class)).context["form"].initial["count"] == 3
    teacher.post(at("add_machines", lab_class), {"count": 3})
    assert not selectors.waiting(lab_class).exists()


# -- many at once ------------------------------------------------------------------------------


def test_start_all(teacher, lab_class):
    for _ in range(3):
        make_place(lab_class)
    answer = teacher.post(act(lab_class, "start"), {"all": "1"}, follow=True)
    assert "3 machines are at it." in answer.content.decode()
    assert set(Machine.objects.values_list("state", flat=True)) == {State.STARTING}
    assert Batch.objects.get().title == "Start 3 machines of Web basics"


def test_start_of_some_tells_who_was_left_out(teacher, lab_class):
    off, on, untouched = make_place(lab_class), make_place(lab_class, state=State.RUNNING), make_place(lab_class)
    page = teacher.post(act(lab_class, "start"), {"machine": [off.machine.key, on.machine.key, "rubbish"]}, follow=True).content.decode()
    assert f"{on.machine.name} is on already." in page
    assert Machine.objects.get(pk=untouched.machine.pk).state == State.STOPPED


def test_nothing_chosen_is_said(teacher, lab_class):
    assert "Choose at least one machine" in teacher.post(act(lab_class, "stop"), follow=True).content.decode()
    assert "Choose at least one machine" in teacher.post(at("remove_students", lab_class), follow=True).content.decode()


@pytest.mark.parametrize(("verb", "kind"), [("force-off", Kind.FORCE_OFF), ("restart", Kind.RESTART), ("revert", Kind.REVERT), ("remove", Kind.DESTROY)])
def test_what_loses_something_is_asked_first(teacher, lab_class, verb, kind):
    place = make_place(lab_class, state=State.RUNNING)
    student = enrol(lab_class).student
    chosen = {"machine": str(place.machine.key)}
    asked = teacher.post(act(lab_class, verb), chosen)
    assert f"{place.machine.name} of {student}" in asked.content.decode()
    assert teacher.get(act(lab_class, verb), chosen).status_code == 200
    assert not Operation.objects.exists()
    teacher.post(act(lab_class, verb), chosen | {"confirmed": "1"})
    assert Operation.objects.get().kind == kind


def test_many_are_deleted_only_when_their_number_is_typed(teacher, lab_class):
    keys = ",".join(str(make_place(lab_class).machine.key) for _ in range(7))
    asked = teacher.post(act(lab_class, "remove"), {"machine": keys.split(",")}).content.decode()
    assert "Delete 7 machines" in asked and "and 1 more" in asked
    answered = {"machine": keys, "confirmed": "1"}
    for count in ({}, {"count": "6"}):
        assert teacher.post(act(lab_class, "remove"), answered | count).status_code == 409
    assert not Operation.objects.exists()
    teacher.post(act(lab_class, "remove"), answered | {"count": "7"})
    assert Operation.objects.filter(kind=Kind.DESTROY).count() == 7


def test_machines_of_another_class_cannot_be_chosen(teacher, lab_class):
    theirs = make_place(make_class("Other")).machine
    for verb in ("start", "remove"):
        teacher.post(act(lab_class, verb), {"machine": str(theirs.key), "confirmed": "1"})
    assert teacher.post(at("retry", lab_class, theirs.key)).status_code == 404
    assert not Operation.objects.exists()


def test_students_are_removed_with_their_machines_or_from_the_waiting_list(teacher, lab_class):
    place = make_place(lab_class)
    seated = enrol(lab_class)
    enrol(lab_class, make_user("grace"))
    asked = teacher.post(at("remove_students", lab_class), {"machine": str(place.machine.key)}).content.decode()
    assert str(seated.student) in asked and "Fresh ones" in asked
    teacher.post(at("remove_students", lab_class), {"student": "grace", "confirmed": "1"})
    assert [each.pk for each in lab_class.enrolments.all()] == [seated.pk]
    teacher.post(at("remove_students", lab_class), {"machine": str(place.machine.key), "confirmed": "1"})
    assert not lab_class.enrolments.exists()
    assert Machine.objects.get(pk=place.machine.pk).state == State.DESTROYING
    assert lab_class.pool.filter(retired_at=None).count() == 1


def test_a_failed_machine_is_named_with_its_reason_and_retried(teacher, lab_class):
    place = make_place(lab_class, state=State.FAILED, problem="The cluster's storage is full.")
    page = teacher.get(at("lab_class", lab_class)).content.decode()
    assert "Needs you" in page and "The cluster&#x27;s storage is full." in page
    assert teacher.post(at("retry", lab_class, place.machine.key), **HTMX).status_code == 204
    assert Operation.objects.get().machine == place.machine


def test_the_page_of_bulk_work_begins_with_the_failures(teacher, lab_class):
    batch = pool.add_machines(lab_class, 3, acting_user=lab_class.teacher)
    last = lab_class.pool.last().machine
    Operation.objects.filter(machine=last).update(state="failed", message="The template is gone.")
    Machine.objects.filter(pk=last.pk).update(state=State.FAILED)
    page = teacher.get(reverse("classes:batch", args=[batch.key]))
    assert page.context["page"][0].machine == last
    assert "The template is gone." in page.content.decode() and "Try again" in page.content.decode()
    assert (page.context["progress"].failed, page.context["progress"].waiting) == (1, 2)


def test_my_machines_names_the_class(client, lab_class):
    make_place(lab_class)
    client.force_login(enrol(lab_class).student)
    assert at("lab_class", lab_class) in client.get(reverse("machines:mine")).content.decode()


def test_archived_classes_come_last_in_the_list(teacher, lab_class):
    class_services.archive_class(lab_class, acting_user=lab_class.teacher)
    make_class("Zoology", teacher=lab_class.teacher)
    names = [each.name for each in teacher.get(reverse("classes:list")).context["page"]]
    assert names == ["Zoology", "Web basics"]


def test_a_spent_machine_that_could_not_be_deleted_is_retried_as_a_deletion(teacher, lab_class):
    place = make_place(lab_class, state=State.FAILED)
    PoolMachine.objects.filter(pk=place.pk).update(retired_at=lab_class.created_at)
    assert "to be deleted" in teacher.get(at("lab_class", lab_class)).content.decode()
    teacher.post(at("retry", lab_class, place.machine.key))
    assert Operation.objects.get().kind == Kind.DESTROY
