"""Who is in a class because a group says so. No group destroys a machine."""

from dataclasses import dataclass, field

import pytest
from django.urls import reverse

from accounts.directory.config import DirectoryConfig
from accounts.models import DIRECTORY, AuditEntry, Identity, Role
from accounts.services import groups, identities
from classes import selectors
from classes.models import Enrolment, LabClass
from classes.services import classes as class_services
from classes.services import directory, enrolment
from machines.models import Machine, Operation
from tests.classes.rows import enrol, machine_of, make_class, make_invite, make_place
from tests.factories import make_user

pytestmark = pytest.mark.django_db

NETWORKS = "cn=networks,ou=winter,ou=groups,dc=uni,dc=test"
OPTICS = "cn=optics,ou=winter,ou=groups,dc=uni,dc=test"


@dataclass
class Systems:
    """What stands for the settings of a directory and of single sign-on."""

    providers: dict = field(default_factory=dict)


@pytest.fixture(autouse=True)
def with_a_directory(settings):
    settings.DIRECTORY = DirectoryConfig(uris=("ldaps://directory.uni.test",), user_bases=("dc=uni,dc=test",))
    settings.SINGLE_SIGN_ON = Systems()


@pytest.fixture
def lab_class():
    return mapped(make_class(), NETWORKS)


def mapped(lab_class, group) -> LabClass:
    class_services.edit_class(
        lab_class,
        acting_user=lab_class.teacher,
        name=lab_class.name,
        template=lab_class.template,
        cores=1,
        memory_mib=512,
        disk_gib=None,
        directory_group=group,
    )
    return lab_class


def sign_in(name, *held, source=DIRECTORY):
    return identities.settle(source, f"id of {name}", name=name, groups=held, role=None)


def people(lab_class):
    return sorted(lab_class.enrolments.values_list("student__username", flat=True))


def left(lab_class):
    return sorted(each.student.username for each in selectors.left_group(lab_class))


# -- in ----------------------------------------------------------------------------------------


def test_whoever_is_in_the_group_is_in_the_class_and_gets_a_machine(lab_class):
    place = make_place(lab_class)
    ann = sign_in("ann", NETWORKS, OPTICS)
    sign_in("ben", OPTICS)
    enrolled = Enrolment.objects.get()
    assert (enrolled.student, enrolled.from_directory, machine_of(enrolled)) == (ann, True, place.machine)
    entry = AuditEntry.objects.get(action="class.join")
    assert entry.data == {"student": "ann", "by": "directory", "group": NETWORKS}
    sign_in("ann", NETWORKS.upper())
    assert people(lab_class) == ["ann"]


def test_machines_are_given_from_the_pool_alone(lab_class):
    """A teacher who takes the group of everybody makes no machine by that."""
    make_place(lab_class)
    for name in ("ann", "ben", "cem"):
        sign_in(name, NETWORKS)
    assert people(lab_class) == ["ann", "ben", "cem"] and selectors.waiting(lab_class).count() == 2
    assert Machine.objects.count() == 1 and not Operation.objects.exists()


def test_those_the_portal_knows_are_in_when_the_group_is_chosen():
    for name in ("ann", "ben"):
        sign_in(name, NETWORKS)
    closed = sign_in("cem", NETWORKS)
    closed.is_active = False
    closed.save()
    assert people(mapped(make_class(), NETWORKS)) == ["ann", "ben"]
    teacher = make_user(role=Role.TEACHER)
    made = class_services.create_class(
        acting_user=teacher, name="New", template=LabClass.objects.get().template, cores=1, memory_mib=512, directory_group=NETWORKS
    )
    assert people(made) == ["ann", "ben"]


def test_many_at_once_come_in_some_at_a_time(monkeypatch):
    monkeypatch.setattr(directory, "_AT_ONCE", 2)
    for number in range(5):
        sign_in(f"s{number}", NETWORKS)
    lab_class = mapped(make_class(), NETWORKS)
    assert len(people(lab_class)) == 5
    for place in [make_place(lab_class) for _ in range(5)]:
        place.refresh_from_db()
    assert people(mapped(lab_class, OPTICS)) == []


def test_who_runs_the_class_is_no_student_of_it(lab_class):
    Identity.objects.create(user=lab_class.teacher, source=DIRECTORY, uid="id of teacher", name="teacher")
    sign_in("teacher", NETWORKS)
    assert people(lab_class) == []


def test_nobody_comes_into_an_archived_class(lab_class):
    make_place(lab_class)
    sign_in("ann", NETWORKS)
    class_services.archive_class(lab_class, acting_user=lab_class.teacher)
    sign_in("ben", NETWORKS)
    sign_in("ann")
    assert people(lab_class) == ["ann"] and left(lab_class) == []


def test_a_group_of_single_sign_on_counts_as_much(lab_class):
    mapped(lab_class, "Networks 2026")
    sign_in("ann", "networks 2026", source="sso:keycloak")
    assert people(lab_class) == ["ann"]


# -- out ---------------------------------------------------------------------------------------


def test_who_left_the_group_keeps_the_machine_until_the_teacher_decides(lab_class):
    place = make_place(lab_class)
    sign_in("ann", NETWORKS)
    sign_in("ann")
    assert people(lab_class) == left(lab_class) == ["ann"]
    place.refresh_from_db()
    assert place.machine.owner.username == "ann" and not Operation.objects.exists()
    assert AuditEntry.objects.filter(action="class.left_group").count() == 1
    sign_in("ann")
    assert AuditEntry.objects.filter(action="class.left_group").count() == 1
    sign_in("ann", NETWORKS)
    assert left(lab_class) == [] and people(lab_class) == ["ann"]
    place.refresh_from_db()
    assert place.machine.owner.username == "ann"


def test_who_only_waited_goes_from_the_list(lab_class):
    sign_in("ann", NETWORKS)
    sign_in("ann")
    assert people(lab_class) == []
    entry = AuditEntry.objects.get(action="class.leave")
    assert entry.data == {"student": "ann", "by": "directory"}


def test_who_came_by_an_invite_does_not_go_by_a_group(lab_class):
    ann = sign_in("ann")
    enrol(lab_class, ann)
    sign_in("ann", NETWORKS)
    sign_in("ann")
    assert people(lab_class) == ["ann"] and left(lab_class) == []


def test_whom_the_teacher_took_out_no_group_brings_back_but_an_invite_does(lab_class):
    ann = sign_in("ann", NETWORKS)
    enrolment.remove_students(lab_class, list(lab_class.enrolments.all()), acting_user=lab_class.teacher)
    sign_in("ann", NETWORKS)
    assert people(lab_class) == []
    enrolment.join(make_invite(lab_class), student=ann)
    assert people(lab_class) == ["ann"] and not lab_class.kept_out.exists()


def test_whom_the_teacher_took_out_after_they_left_the_group_comes_back_with_it(lab_class):
    make_place(lab_class)
    sign_in("ann", NETWORKS)
    sign_in("ann")
    enrolment.remove_students(lab_class, list(lab_class.enrolments.all()), acting_user=lab_class.teacher)
    sign_in("ann", NETWORKS)
    assert people(lab_class) == ["ann"]


def test_a_class_without_the_group_keeps_its_people_and_one_with_another_marks_them(lab_class):
    for _ in range(2):
        make_place(lab_class)
    sign_in("ann", NETWORKS)
    sign_in("ben", NETWORKS, OPTICS)
    mapped(lab_class, OPTICS)
    assert people(lab_class) == ["ann", "ben"] and left(lab_class) == ["ann"]
    mapped(lab_class, "")
    assert people(lab_class) == ["ann", "ben"] and left(lab_class) == []
    sign_in("ann")
    assert people(lab_class) == ["ann", "ben"] and left(lab_class) == []


# -- what a teacher types ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        NETWORKS,
        "CN=Networks, OU=Winter, OU=Groups, DC=uni, DC=test",
        r"cn=ne\74works,ou=winter,ou=groups,dc=uni,dc=test",
        "networks",
        "Networks",
        "cn=Networks",
    ],
)
def test_a_group_is_named_in_whole_or_by_its_own_name(typed):
    sign_in("ann", NETWORKS, OPTICS)
    assert groups.resolve(typed) == NETWORKS


def test_the_whole_name_of_a_group_nobody_is_in_yet_is_taken():
    assert groups.resolve("cn=New,dc=uni") == "cn=new,dc=uni"


@pytest.mark.parametrize(
    "typed", ["network", "*", "net*", "cn=*", "networks)(cn=*", "cn=networks)(|(cn=*", "winter", "\x00", "n\u202eetworks", "n" * 501, "=", "cn="]
)
def test_what_names_no_group_is_refused(typed):
    sign_in("ann", NETWORKS)
    with pytest.raises(groups.GroupUnclear):
        groups.resolve(typed)


def test_a_name_of_several_groups_is_refused_with_their_whole_names():
    """Anybody who may make groups somewhere in the directory would be in the class otherwise."""
    sign_in("ann", NETWORKS)
    sign_in("eve", "cn=networks,ou=made by students,dc=uni,dc=test")
    with pytest.raises(groups.GroupUnclear, match="ou=winter,ou=groups") as refused:
        groups.resolve("networks")
    assert "ou=made by students" in refused.value.message


@pytest.mark.parametrize(
    ("group", "name"), [(NETWORKS, "networks"), (r"cn=physics\, applied,dc=uni", "physics, applied"), ("/courses/x", "/courses/x"), ("", "")]
)
def test_a_group_is_shown_by_its_own_name(group, name):
    assert groups.shown(group) == name


# -- pages -------------------------------------------------------------------------------------


def page(name, lab_class):
    return reverse(f"classes:{name}", args=[lab_class.key])


def filled(lab_class, **more):
    return {"name": lab_class.name, "template": lab_class.template_id, "size": "now", **more}


def test_a_teacher_chooses_the_group_in_the_form(client, lab_class):
    sign_in("ann", OPTICS)
    client.force_login(lab_class.teacher)
    assert NETWORKS in client.get(page("edit", lab_class)).content.decode()
    refused = client.post(page("edit", lab_class), filled(lab_class, directory_group="nothing of the kind"))
    assert refused.status_code == 409 and "Nobody of the portal is in a group of this name" in refused.content.decode()
    assert client.post(page("edit", lab_class), filled(lab_class, directory_group=NETWORKS)).status_code == 302
    assert client.post(page("edit", lab_class), filled(lab_class, directory_group="Optics")).status_code == 302
    lab_class.refresh_from_db()
    assert lab_class.directory_group == OPTICS and people(lab_class) == ["ann"]
    assert client.post(page("edit", lab_class), filled(lab_class, directory_group="")).status_code == 302
    lab_class.refresh_from_db()
    assert lab_class.directory_group == ""


def test_where_no_system_tells_of_groups_none_is_asked_for_and_none_lost(client, lab_class, settings):
    settings.DIRECTORY = None
    client.force_login(lab_class.teacher)
    assert "directory_group" not in client.get(page("edit", lab_class)).content.decode()
    client.post(page("edit", lab_class), filled(lab_class, directory_group="", name="Other"))
    lab_class.refresh_from_db()
    assert (lab_class.name, lab_class.directory_group) == ("Other", NETWORKS)
    settings.SINGLE_SIGN_ON = Systems({"openid_connect": {}})
    assert "directory_group" in client.get(page("edit", lab_class)).content.decode()


def test_the_teacher_sees_who_left_and_removes_them_all(client, lab_class):
    for name in ("ann", "ben", "cem"):
        make_place(lab_class)
        sign_in(name, NETWORKS)
    for name in ("ann", "ben"):
        sign_in(name)
    client.force_login(lab_class.teacher)
    shown = client.get(page("lab_class", lab_class)).content.decode()
    assert "2 students are no longer in the group networks" in shown and shown.count("left the group</span>") == 2
    listed = client.get(page("lab_class", lab_class) + "?show=left").content.decode()
    assert "web-basics-01" in listed and "web-basics-02" in listed and "web-basics-03</a>" not in listed
    posted = {"student": "ann,ben"}
    assert 'name="student" value="ann,ben"' in shown
    asked = client.post(page("remove_students", lab_class), posted)
    assert asked.status_code == 200 and people(lab_class) == ["ann", "ben", "cem"], "it is asked first"
    client.post(page("remove_students", lab_class), {**posted, "confirmed": "1"})
    assert people(lab_class) == ["cem"]
