"""Everybody of the directory is looked up once a night. A real OpenLDAP is asked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as portal
from django.db import OperationalError
from django.test import Client

from accounts.directory.client import Directory
from accounts.directory.config import Groups
from accounts.directory.types import Unreachable
from accounts.models import DIRECTORY, AuditEntry, DirectorySync, Identity, Role, User
from accounts.services import directory_sync, identities, people
from accounts.services.directory_sync import Found, Outcome, sync
from classes import selectors
from machines.models import Operation
from tests import slapd as tree
from tests.classes.rows import make_class, make_place
from tests.directory.config import config_for
from tests.factories import make_machine, make_user

pytestmark = pytest.mark.django_db

NOBODY = "11111111-2222-3333-4444-555555555555"  # an entryUUID of no entry


@pytest.fixture
def directory(slapd, settings):
    settings.DIRECTORY = config_for(slapd)
    return slapd


def came(name) -> User:
    """They signed in once, and were then who the tree says."""
    entry = Directory(portal.DIRECTORY).find(name)
    return identities.settle_entry(entry, portal.DIRECTORY)


def now(user) -> User:
    return User.objects.get(pk=user.pk)


def times(action) -> int:
    return AuditEntry.objects.filter(action=action).count()


# -- who is there ------------------------------------------------------------------------------


def test_names_roles_and_groups_follow_the_directory_without_a_sign_in(directory):
    bob, carol, erik, dora = came("bob"), came("carol"), came("erik"), came("dora")
    assert [now(user).role for user in (bob, carol, erik, dora)] == [Role.STUDENT, Role.TEACHER, Role.STAFF, Role.TEACHER]
    directory.change(tree.STAFF, uniqueMember=[directory.dns["carol"]])
    directory.leave(tree.TEACHERS, f"cn=lecturers,{tree.GROUPS}")
    directory.change(directory.dns["bob"], sn="Maurer", mail="b.maurer@uni.test")
    directory.rename("bob", "bmaurer")
    report = sync()
    assert (report.outcome, report.found, report.closed) == (Outcome.OK, {Found.PRESENT: 4}, [])
    assert [now(user).role for user in (carol, erik, dora)] == [Role.STAFF, Role.STUDENT, Role.STUDENT]
    bob = now(bob)
    assert (bob.username, bob.last_name, bob.email, bob.identities.get().name) == ("bob", "Maurer", "b.maurer@uni.test", "bmaurer")
    assert AuditEntry.objects.filter(action="identity.names").first().data == {"source": DIRECTORY, "changed": ["last_name"]}
    entry = AuditEntry.objects.get(action="directory.sync")
    assert entry.outcome == "ok" and entry.data["found"] == {"present": 4} and entry.actor_name == "portal"


def test_what_the_night_changes_is_recorded_as_done_by_the_portal(directory):
    came("bob")
    last = AuditEntry.objects.latest("pk").pk
    directory.change(directory.dns["bob"], sn="Maurer", mail="b.maurer@uni.test")
    directory.rename("bob", "bmaurer")
    sync()
    entries = AuditEntry.objects.filter(pk__gt=last)
    assert set(entries.values_list("action", "actor_name")) == {
        (action, "portal") for action in ("identity.names", "identity.renamed", "user.address", "directory.sync")
    }


def test_a_group_brings_its_people_into_the_class_that_of_a_group_in_it_too(directory):
    lab_class = make_class()
    lab_class.directory_group = tree.NETWORKS
    lab_class.save()
    place = make_place(lab_class)
    alice, bob, carol = came("alice"), came("bob"), came("carol")  # bob is in it by the group of his year
    assert set(lab_class.enrolments.values_list("student", flat=True)) == {alice.pk, bob.pk}
    directory.leave(tree.NETWORKS, directory.dns["alice"])
    directory.join(tree.NETWORKS, directory.dns["carol"])
    sync()
    assert set(lab_class.enrolments.values_list("student", flat=True)) == {alice.pk, bob.pk, carol.pk}
    assert [enrolment.student for enrolment in selectors.left_group(lab_class)] == [alice]
    place.refresh_from_db()
    assert place.machine.owner == alice and not Operation.objects.exists()


@pytest.fixture
def waiting(directory):
    """A class of Carol's group, in which she has a machine, and of Bob's and Alice's, who wait for one."""
    lab_class = make_class()
    lab_class.directory_group = tree.TEACHERS
    lab_class.save()
    make_place(lab_class)
    came("carol")
    for name in ("alice", "bob"):
        directory.join(tree.TEACHERS, directory.dns[name])
        came(name)
    return lab_class


def in_class(lab_class) -> list[tuple[str, bool]]:
    return sorted((enrolment.student.username, enrolment.left_group_at is None) for enrolment in lab_class.enrolments.select_related("student"))


def test_where_groups_cannot_be_read_a_sign_in_takes_a_role_and_no_place(directory, settings, waiting):
    believed, places = settings.DIRECTORY, [("alice", True), ("bob", True), ("carol", True)]
    settings.DIRECTORY = config_for(directory, groups=Groups(bases=(tree.PEOPLE,)))
    assert [came(name).role for name in ("carol", "bob", "alice")] == [Role.STUDENT] * 3
    assert in_class(waiting) == places
    assert sync().outcome == Outcome.REFUSED and in_class(waiting) == places
    settings.DIRECTORY = believed
    assert came("carol").role == Role.TEACHER and in_class(waiting) == places


def test_who_left_their_last_group_loses_the_role_at_once_and_the_place_at_night(directory, waiting):
    directory.leave(tree.TEACHERS, directory.dns["carol"])
    assert not Directory(portal.DIRECTORY).find("carol").groups
    assert came("carol").role == Role.STUDENT and ("carol", True) in in_class(waiting)
    assert sync().lowered == ["carol"] and ("carol", False) in in_class(waiting)
    assert not Identity.objects.get(user__username="carol").groups


def test_who_comes_back_is_in_none_of_their_old_groups(directory, waiting):
    directory.change(directory.dns["carol"], nsAccountLock="TRUE")
    assert sync().closed == ["carol"] and ("carol", True) not in in_class(waiting)
    directory.change(directory.dns["carol"], nsAccountLock=None)
    directory.leave(tree.TEACHERS, directory.dns["carol"])
    assert came("carol").identities.get().groups == [] and ("carol", True) not in in_class(waiting)


def test_who_left_one_of_several_groups_loses_the_place_at_the_sign_in(directory, waiting):
    directory.leave(tree.TEACHERS, directory.dns["bob"])
    assert came("bob").identities.get().groups and in_class(waiting) == [("alice", True), ("carol", True)]


# -- who has gone ------------------------------------------------------------------------------


def test_who_is_gone_for_two_syncs_is_deactivated_and_keeps_the_machines(directory):
    bob, _carol = came("bob"), came("carol")
    machine = make_machine(owner=bob)
    client = Client()
    client.force_login(bob)
    assert client.get("/").status_code == 200
    uuid = directory.value(directory.dns["bob"], "entryUUID")
    directory.delete(directory.dns["bob"])
    report = sync()
    assert (report.found, report.closed) == ({Found.GONE: 1, Found.PRESENT: 1}, [])
    assert now(bob).is_active and bob.identities.get().missing_since is not None, "once is no proof"
    assert AuditEntry.objects.get(action="identity.missing").object_name == "Bob Müller (bob)"
    assert client.get("/").status_code == 200
    assert sync().closed == ["bob"]
    assert not now(bob).is_active and bob.identities.get().uid == uuid.decode()
    assert client.get("/").status_code == 302, "the session has ended"
    machine.refresh_from_db()
    assert machine.owner == bob and not Operation.objects.exists()
    entry = AuditEntry.objects.get(action="user.left")
    assert entry.object_name and entry.data["name"] == "bob" and entry.actor_name == "portal"
    assert sync().closed == [] and times("user.left") == times("identity.missing") == 1


@pytest.mark.parametrize("mark", [{"pwdAccountLockedTime": "000001010000Z"}, {"userAccountControl": "514"}, {"nsAccountLock": "TRUE"}])
def test_whom_the_directory_disables_is_deactivated_at_once(directory, mark):
    bob, carol = came("bob"), came("carol")
    directory.change(directory.dns["bob"], **mark)
    report = sync()
    assert report.found == {Found.PRESENT: 1, Found.DISABLED: 1} and report.closed == ["bob"]
    assert not now(bob).is_active and now(carol).is_active


def test_who_comes_back_is_let_in_again(directory):
    bob = came("bob")
    directory.change(directory.dns["bob"], nsAccountLock="TRUE")
    sync()
    directory.change(directory.dns["bob"], nsAccountLock=None)
    sync()
    identity = bob.identities.get()
    assert now(bob).is_active and identity.missing_since is None and identity.closed_at is None and times("user.came_back") == 1
    directory.change(directory.dns["bob"], nsAccountLock="TRUE")
    sync()
    directory.change(directory.dns["bob"], nsAccountLock=None)
    assert came("bob") == bob and now(bob).is_active, "at the next sign-in, too"


def test_who_was_missing_only_once_is_not_held_to_be_gone(directory):
    bob = came("bob")
    Identity.objects.update(missing_since="2026-01-01T00:00Z")
    sync()
    assert now(bob).is_active and bob.identities.get().missing_since is None and times("identity.found") == 1


def test_whom_staff_deactivated_the_directory_does_not_let_in_again(directory):
    bob = came("bob")
    staff = make_user(role=Role.STAFF)
    people.deactivate(bob, acting_user=staff)
    assert sync().found == {} and came("bob") is None
    people.reactivate(bob, acting_user=staff)
    directory.change(directory.dns["bob"], nsAccountLock="TRUE")
    assert sync().closed == ["bob"]
    people.deactivate(bob, acting_user=staff)  # closed already, and now for another reason
    directory.change(directory.dns["bob"], nsAccountLock=None)
    sync()
    assert not now(bob).is_active and came("bob") is None


def test_whom_staff_let_in_again_stays_in(directory):
    """A guest who finishes a thesis; the directory has no account of theirs any more."""
    bob, _carol = came("bob"), came("carol")
    directory.delete(directory.dns["bob"])
    sync()
    assert sync().closed == ["bob"]
    people.reactivate(bob, acting_user=make_user(role=Role.STAFF))
    assert sync().closed == [] and now(bob).is_active


def test_a_superuser_stays(directory, caplog):
    erik, _carol = came("erik"), came("carol")
    User.objects.filter(pk=erik.pk).update(is_superuser=True)
    directory.delete(directory.dns["erik"])
    sync()
    sync()
    assert now(erik).is_active and "erik has left the directory, and stays as a superuser" in caplog.text


def test_the_last_who_runs_the_portal_stays(directory, caplog):
    """A portal that nobody runs could not let anybody in again."""
    erik = came("erik")
    directory.change(directory.dns["erik"], nsAccountLock="TRUE")
    assert sync().closed == [] and now(erik).is_active and "the last who runs the portal" in caplog.text
    make_user(role=Role.STAFF)
    assert sync().closed == ["erik"]


def test_who_is_in_no_group_that_lets_them_in_has_gone(directory, settings):
    bob, carol = came("bob"), came("carol")
    settings.DIRECTORY = config_for(directory, required_groups=frozenset({tree.TEACHERS}))
    assert sync().found == {Found.GONE: 1, Found.PRESENT: 1}
    sync()
    assert not now(bob).is_active and now(carol).is_active


def test_accounts_of_the_portal_and_of_single_sign_on_are_no_matter_of_the_directory(directory):
    local = make_user()
    other = identities.settle("sso:keycloak", NOBODY, name="kim", role=None)
    for _ in range(2):
        assert sync().found == {}
    assert now(local).is_active and now(other).is_active


def test_whoever_signs_in_while_the_sync_ends_is_not_deactivated(directory, monkeypatch):
    bob = came("bob")
    directory.change(directory.dns["bob"], nsAccountLock="TRUE")
    close = directory_sync._close

    def close_late(pk):
        Identity.objects.update(missing_since=None)  # as a sign-in leaves it
        return close(pk)

    monkeypatch.setattr(directory_sync, "_close", close_late)
    assert sync().closed == [] and now(bob).is_active


# -- a directory that is not to be believed ------------------------------------------------------


@pytest.fixture
def twelve(directory):
    """As many people who signed in, of whom the directory knows none now."""
    for number in range(12):
        identities.settle(DIRECTORY, NOBODY[:-2] + f"{number:02}", name=f"s{number}", role=None)
    return directory


def active() -> int:
    return User.objects.filter(is_active=True).count()


def test_where_too_many_would_go_at_once_nobody_does(twelve, caplog):
    sync()
    report = sync()
    assert report.outcome == Outcome.REFUSED and len(report.closed) == 12 and active() == 12
    assert "12 of 12 people would be deactivated" in caplog.text
    entry = AuditEntry.objects.filter(action="directory.sync").first()
    assert (entry.outcome, entry.data["deactivated"]) == ("refused", 0)
    assert sync(however_many=True).outcome == Outcome.OK and active() == 0


def test_a_part_of_many_may_go(twelve):
    Identity.objects.filter(pk__in=Identity.objects.order_by("pk").values("pk")[:2]).delete()
    came("carol")
    sync()
    assert len(sync().closed) == 10, "ten may go, of however few"


def test_a_directory_that_finds_nobody_any_more_is_not_believed(directory, settings):
    """Its people were moved, or the portal may not read them; few as they are here, too."""
    bob, carol = came("bob"), came("carol")
    settings.DIRECTORY = config_for(directory, user_bases=(tree.GROUPS,))
    sync()
    report = sync()
    assert report.outcome == Outcome.REFUSED and report.found == {Found.GONE: 2} and now(bob).is_active and now(carol).is_active
    settings.DIRECTORY = config_for(directory)
    sync()
    assert not Identity.objects.exclude(missing_since=None).exists()


@pytest.fixture
def faculty(directory):
    """Twelve teachers, and a student who is in a group, too."""
    names = [f"t{number}" for number in range(12)]
    for name in names:
        directory.join(tree.TEACHERS, directory.add_person(name, "Tea", "Cher", tree.EMPLOYEES))
    came("bob")
    return [came(name) for name in names]


def teachers() -> int:
    return User.objects.filter(role=Role.TEACHER).count()


def test_where_groups_cannot_be_read_nobody_loses_a_role_or_a_place(directory, settings, faculty, caplog):
    """The server answers as if there were none."""
    lab_class = make_class()
    lab_class.directory_group = tree.TEACHERS
    lab_class.save()
    make_place(lab_class)
    sync()
    enrolled = list(lab_class.enrolments.values())
    assert len(enrolled) == 12 and teachers() == 13 and lab_class.enrolments.exclude(place=None).count() == 1
    settings.DIRECTORY = config_for(directory, groups=Groups(bases=(tree.PEOPLE,)))
    report = sync()
    assert (report.outcome, len(report.lowered), report.closed) == (Outcome.REFUSED, 13, [])
    assert teachers() == 13 and list(lab_class.enrolments.values()) == enrolled
    assert "13 of 13 people would be in no group any more" in caplog.text
    entry = AuditEntry.objects.filter(action="directory.sync").first()
    assert (entry.outcome, entry.data["lowered"]) == ("refused", 0)
    assert sync(dry_run=True, however_many=True).lowered == report.lowered and teachers() == 13
    assert sync(however_many=True).outcome == Outcome.OK and teachers() == 1, "the one who teaches the class is no matter of the directory"
    assert lab_class.enrolments.get().left_group_at is not None


def test_where_a_part_of_the_groups_cannot_be_read_nobody_loses_a_role(directory, settings, faculty):
    settings.DIRECTORY = config_for(directory, groups=Groups(bases=(tree.GROUPS,), filter=f"(!(cn={tree.TEACHERS.partition(',')[0][3:]}))"))
    assert sync().problem == "12 of 12 people would be teacher no more, more than 10" and teachers() == 12
    settings.DIRECTORY = config_for(directory)
    assert sync().lowered == []


def test_who_is_not_concerned_is_brought_up_to_date_all_the_same(directory, settings, faculty):
    settings.DIRECTORY = config_for(directory, role_groups={})
    directory.change(directory.dns["bob"], sn="Maurer")
    assert sync().outcome == Outcome.REFUSED and teachers() == 12
    assert User.objects.get(username="bob").last_name == "Maurer"


def test_a_directory_without_groups_any_more_is_not_believed_few_as_they_are(directory, settings):
    bob, carol = came("bob"), came("carol")
    settings.DIRECTORY = config_for(directory, groups=Groups(bases=(tree.PEOPLE,)))
    assert sync().outcome == Outcome.REFUSED and now(carol).role == Role.TEACHER and bob.identities.get().groups


def test_that_all_who_teach_leave_at_once_is_not_believed_however_many_stay(directory, settings, faculty, monkeypatch):
    """Who is in no group may not sign in, and so all of them seem to be gone."""
    for number in range(60):
        identities.settle_entry(replace(Directory(portal.DIRECTORY).find("bob"), uid=f"{NOBODY[:-2]}{number:02}", name=f"s{number}"), portal.DIRECTORY)
    settings.DIRECTORY = config_for(directory, student_by_default=False)
    by_uid = Directory.by_uid

    def seen(self, uid):
        entry = by_uid(self, uid)
        return replace(bob, uid=uid) if entry is None else replace(entry, groups=frozenset()) if tree.EMPLOYEES in entry.dn else entry

    bob = Directory(portal.DIRECTORY).find("bob")
    monkeypatch.setattr(Directory, "by_uid", seen)
    sync()
    assert sync().outcome == Outcome.REFUSED and teachers() == 12 and active() == 73


def test_a_directory_that_is_down_puts_nobody_out(directory):
    bob = came("bob")
    Identity.objects.update(missing_since="2026-01-01T00:00Z")
    directory.stop()
    report = sync()
    assert report.outcome == Outcome.UNREACHABLE and now(bob).is_active and times("user.left") == 0
    entry = AuditEntry.objects.get(action="directory.sync")
    assert entry.outcome == "unreachable" and entry.data["problem"]


def test_a_directory_that_goes_down_on_the_way_puts_nobody_out(twelve, monkeypatch):
    sync()
    looks = []
    by_uid = Directory.by_uid

    def then_down(self, uid):
        looks.append(uid)
        if len(looks) == 6:
            twelve.stop()
        return by_uid(self, uid)

    monkeypatch.setattr(Directory, "by_uid", then_down)
    assert sync(however_many=True).outcome == Outcome.UNREACHABLE and active() == 12
    assert looks[5:] == [uid for uid in looks[5:11:2] for _twice in range(2)], "three are asked for in vain, and nobody after them"


@pytest.fixture
def silent_about(monkeypatch):
    """Who is looked up in vain, as these ids take too long; every look is in the list."""

    def silence(*silent):
        looks = []
        by_uid = Directory.by_uid

        def look(self, uid):
            looks.append(uid)
            if uid in silent:
                raise Unreachable("The directory does not answer at the moment.", "no answer within 2.5 s")
            return by_uid(self, uid)

        monkeypatch.setattr(Directory, "by_uid", look)
        return looks

    return silence


def test_an_entry_that_always_takes_too_long_does_not_end_the_sync(directory, silent_about):
    bob, carol, erik, dora = came("bob"), came("carol"), came("erik"), came("dora")
    directory.delete(directory.dns["bob"])
    directory.change(directory.dns["dora"], nsAccountLock="TRUE", sn="Maurer")
    directory.change(directory.dns["erik"], sn="Maurer")
    looks = silent_about(carol.identities.get().uid)
    report = sync()
    assert (report.outcome, report.found) == (Outcome.OK, {Found.GONE: 1, Found.UNKNOWN: 1, Found.PRESENT: 1, Found.DISABLED: 1})
    assert now(erik).last_name == "Maurer" and report.closed == ["dora"]
    assert sync().closed == ["bob"] and not now(bob).is_active and now(carol).is_active and not now(dora).is_active
    assert looks.count(carol.identities.get().uid) == 4 and looks.count(erik.identities.get().uid) == 2, "twice a night where nothing is said"


def test_a_look_that_is_answered_the_second_time_is_as_good(directory, monkeypatch):
    came("bob")
    by_uid, looks = Directory.by_uid, []

    def late(self, uid):
        looks.append(uid)
        if len(looks) == 1:
            raise Unreachable("The directory does not answer at the moment.")
        return by_uid(self, uid)

    monkeypatch.setattr(Directory, "by_uid", late)
    report = sync()
    assert (report.outcome, report.found, report.problem) == (Outcome.OK, {Found.PRESENT: 1}, "")


def test_silence_about_many_who_do_not_stand_together_is_not_believed(twelve, silent_about):
    sync()
    more = [identities.settle(DIRECTORY, f"{NOBODY[:-2]}{number}", name=f"m{number}", role=None).identities.get().uid for number in range(20, 50)]
    silent_about(*more[::3], *more[1::3])
    assert sync(however_many=True).outcome == Outcome.UNREACHABLE and active() == 42


def test_what_cannot_be_written_of_one_person_keeps_nobody_else_from_it(directory, monkeypatch):
    bob, carol = came("bob"), came("carol")
    for name in ("bob", "carol"):
        directory.change(directory.dns[name], sn="Maurer")
    settle_entry = identities.settle_entry

    def deadlocks(entry, config, **more):
        if entry.name == "bob":
            raise OperationalError("deadlock detected")
        return settle_entry(entry, config, **more)

    monkeypatch.setattr(identities, "settle_entry", deadlocks)
    report = sync()
    assert (report.outcome, report.found) == (Outcome.OK, {Found.UNKNOWN: 1, Found.PRESENT: 1})
    assert (now(bob).last_name, now(carol).last_name) == ("Müller", "Maurer") and report.problem == "directory: bob: OperationalError"


def test_who_cannot_be_deactivated_keeps_nobody_else_in(directory, monkeypatch):
    bob, carol = came("bob"), came("carol")
    make_user(role=Role.STAFF)
    for name in ("bob", "carol"):
        directory.change(directory.dns[name], nsAccountLock="TRUE")
    close = people.close

    def deadlocks(user, **more):
        if user == bob:
            raise OperationalError("deadlock detected")
        close(user, **more)

    monkeypatch.setattr(people, "close", deadlocks)
    assert sync().closed == ["carol"] and now(bob).is_active and not now(carol).is_active
    monkeypatch.undo()
    assert bob.identities.get().closed_at is None


def test_a_directory_that_does_not_let_the_portal_read_puts_nobody_out(directory, settings):
    bob = came("bob")
    Identity.objects.update(missing_since="2026-01-01T00:00Z")
    settings.DIRECTORY = config_for(directory, bind_password="wrong")
    report = sync()
    assert report.outcome == Outcome.UNREACHABLE and report.found == {Found.UNKNOWN: 1} and "bind" in report.problem and now(bob).is_active
    assert "wrong" not in str(AuditEntry.objects.get(action="directory.sync").data)


def test_the_portal_does_not_go_on_asking_a_directory_that_lets_it_not_in(twelve, settings, monkeypatch):
    """So many wrong passwords lock accounts."""
    monkeypatch.setattr(directory_sync, "AT_ONCE", 2)
    monkeypatch.setattr(directory_sync, "FEW", 3)
    settings.DIRECTORY = config_for(twelve, bind_password="wrong")
    report = sync()
    assert report.outcome == Outcome.UNREACHABLE and report.found[Found.UNKNOWN] == 4


def test_a_dry_run_changes_nothing(twelve):
    bob = came("bob")
    directory_sync.sync()
    twelve.change(twelve.dns["bob"], sn="Maurer")
    before = list(Identity.objects.order_by("pk").values()), list(User.objects.order_by("pk").values()), AuditEntry.objects.count()
    report = sync(dry_run=True)
    assert report.outcome == Outcome.REFUSED and len(report.closed) == 12 and report.found == {Found.GONE: 12, Found.PRESENT: 1}
    assert before == (list(Identity.objects.order_by("pk").values()), list(User.objects.order_by("pk").values()), AuditEntry.objects.count())
    assert now(bob).last_name == "Müller"


# -- when --------------------------------------------------------------------------------------


@pytest.fixture
def at(monkeypatch):
    """Set the clock of the sync."""

    def set_to(*hour):
        monkeypatch.setattr(directory_sync.timezone, "now", lambda: datetime(2026, 11, 20, *hour, tzinfo=UTC))

    return set_to


def test_it_is_done_once_a_night_from_its_hour_on(directory, at, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    came("bob")
    at(1, 59)
    assert directory_sync.run_if_due() is None, "it is 2:59 there"
    at(2, 0)
    assert directory_sync.run_if_due().outcome == Outcome.OK
    at(22, 0)
    assert directory_sync.run_if_due() is None
    at(23, 30)
    assert directory_sync.run_if_due() is None, "it is the next day, and too early"
    assert times("directory.sync") == 1 and DirectorySync.objects.get().finished_at


def test_one_process_does_it(directory, at):
    came("bob")
    at(4, 0)
    DirectorySync.objects.create(day="2026-11-20", lease="other", lease_until=datetime(2026, 11, 20, 4, 5, tzinfo=UTC))
    assert directory_sync.run_if_due() is None
    at(4, 6)
    assert directory_sync.run_if_due().outcome == Outcome.OK, "the other one died at it"


def test_of_two_that_begin_together_one_does_it(monkeypatch):
    create = DirectorySync.objects.create

    def quicker(**row):
        monkeypatch.undo()
        create(**row | {"lease": "other"})
        return create(**row)

    monkeypatch.setattr(type(DirectorySync.objects), "create", lambda _, **row: quicker(**row))
    assert directory_sync._take(datetime(2026, 11, 20, tzinfo=UTC).date(), "ours") is False


def test_who_lost_the_lease_stops(directory, at):
    came("bob")
    at(4, 0)
    by_another = []

    def goes_on():
        by_another.append(1)
        return False

    assert sync(goes_on=goes_on).outcome == Outcome.TAKEN_OVER and by_another == [1] and times("directory.sync") == 0


def test_after_an_outage_it_is_tried_again_the_same_night(directory, at):
    came("bob")
    at(3, 0)
    directory.stop()
    assert directory_sync.run_if_due().outcome == Outcome.UNREACHABLE
    directory.start()
    at(3, 30)
    assert directory_sync.run_if_due() is None
    at(4, 1)
    assert directory_sync.run_if_due().outcome == Outcome.OK


def test_without_a_directory_nothing_is_due(settings, at):
    settings.DIRECTORY = None
    at(4, 0)
    assert directory_sync.run_if_due() is None and not DirectorySync.objects.exists()


def test_what_is_remembered_of_nights_is_trimmed(directory, at):
    old = datetime(2025, 1, 1, tzinfo=UTC)
    DirectorySync.objects.create(day=old.date(), lease="x", lease_until=old)
    at(4, 0)
    directory_sync.run_if_due()
    assert DirectorySync.objects.get().day == (old + timedelta(days=688)).date()
