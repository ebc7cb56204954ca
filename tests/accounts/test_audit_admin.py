"""Staff read the record: searched, narrowed, as a file; quick however long it is, and safe whatever names are in it."""

import csv
import io
import json
import re
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient
from django.urls import reverse
from django.utils import timezone

from accounts import record_words
from accounts.models import AuditEntry, User
from accounts.services import audit
from tests.factories import make_machine, make_user

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/auditentry/"


@pytest.fixture
def staff(client):
    staff = make_user("eve", role="staff")
    client.force_login(staff)
    return staff


@pytest.fixture
def anna():
    return make_user("anna", first_name="Anna", last_name="Maier")


def listed(client, **query):
    return [entry.action for entry in client.get(LIST, query).context["cl"].result_list]


def test_a_row_reads_like_a_sentence_and_leads_on(client, staff, anna):
    machine = make_machine("web-07", owner=anna)
    audit.record("console.open", acting_user=anna, target=machine, kind="screen")
    text = client.get(LIST).content.decode()
    person, page = reverse("admin:accounts_user_change", args=[anna.pk]), reverse("machines:machine", args=[machine.key])
    assert f'<a href="{person}">Anna Maier (anna)</a> opened the screen of <a href="{page}">web-07</a>' in text


@pytest.mark.parametrize(
    ("action", "data", "sentence"),
    [
        ("class.join", {"student": "bob", "by": "directory"}, "The directory put bob into the class Web"),
        ("class.join", {"student": "bob", "by": "import"}, "eve put bob into the class Web"),
        ("class.join", {"invite": 1}, "eve joined the class Web"),
        ("user.address", {"source": "directory", "email": "a@uni.test"}, "The directory gave Web the address a@uni.test"),
        ("user.address", {"source": "sso:uni", "email": "a@uni.test"}, "Single sign-on gave Web the address a@uni.test"),
        ("user.address", {"email": "a@uni.test"}, "eve gave Web the address a@uni.test"),
        ("user.from_outside", {"source": "directory"}, "Web came in with an account of the directory"),
        ("user.from_outside", {"source": "sso:uni"}, "Web came in with an account of another system"),
    ],
)
def test_it_says_who_did_it_and_to_whom(staff, action, data, sentence):
    entry = audit.record(action, acting_user=staff, target_name="Web", **data)
    assert record_words.sentence(entry, "eve", "Web") == sentence


def test_every_action_of_the_portal_has_a_sentence():
    root = Path(__file__).resolve().parents[2]
    sources = [path.read_text() for app in ("accounts", "machines", "classes", "console", "labportal") for path in (root / app).glob("**/*.py")]
    actions = {action for source in sources for action in re.findall(r'\brecord\(\s*"([a-z_]+\.[a-z_]+)"', source)}
    assert len(actions) > 60
    assert not actions - record_words._SENTENCES.keys()


def test_what_was_refused_does_not_read_as_done(client, staff, anna):
    audit.record("class.join", acting_user=anna, target_name="Web", outcome="expired")
    audit.record("user.sign_in_failed", acting_user=None, target=anna, outcome="refused")
    text = client.get(LIST).content.decode()
    assert "Not done: <a" in text and "</a> joined the class Web" in text
    assert "Not done: Signing in" not in text


def test_an_action_without_a_sentence_is_shown_by_its_name(client, staff, anna):
    audit.record("something.new", acting_user=anna, target_name="this")
    assert "something.new this" in client.get(LIST).content.decode()


@pytest.mark.parametrize("action", ["user.role", "something.new", "class.remove_student", "user.address_added"])
def test_hostile_names_are_text(client, staff, action):
    evil = '<script>alert("1")</script>%(who)s'
    mallory = make_user("mallory", first_name=evil)
    entry = audit.record(action, acting_user=mallory, target_name=evil, outcome="<b>no", before=evil, after=evil, student=evil, email=evil, token=evil)
    for page in (LIST, f"{LIST}{entry.pk}/change/"):
        text = client.get(page).content.decode()
        assert "<script>alert" not in text and "<b>no" not in text
        assert "&lt;script&gt;" in text


def test_what_a_sentence_misses_breaks_no_page(client, staff, anna):
    audit.record("user.role", acting_user=anna, target=anna)
    assert "from ? to ?" in client.get(LIST).content.decode()


def test_nobody_is_taken_for_somebody_else_by_a_name_of_their_choice(client, staff, anna):
    mallory = make_user("mallory", first_name="Anna", last_name="Maier")
    audit.record("user.role", acting_user=mallory, target=anna, before="student", after="staff")
    text = client.get(LIST).content.decode()
    assert "Anna Maier (mallory)</a> changed the role of <a" in text and "Anna Maier (anna)</a> from student" in text
    make_user("m" * 150, first_name="Anna", last_name="M" * 150)
    assert audit.record("test", acting_user=None, target=User.objects.get(username="m" * 150)).object_name.endswith(f"({'m' * 150})")


def test_whoever_is_gone_is_still_named(client, staff, anna):
    audit.record("user.signed_in", acting_user=anna, target=anna)
    number = anna.pk
    anna.delete()
    assert "anna signed in" in client.get(LIST).content.decode()
    assert listed(client, actor=number) == ["user.signed_in"]


def test_it_is_searched_by_person_object_address_key_and_action(client, staff, anna):
    machine = make_machine("web-07")
    with audit.origin(address="192.0.2.7"):
        audit.record("machine.start", acting_user=anna, target=machine)
    audit.record("user.signed_in", acting_user=staff, target=staff)
    for term in ("anna", "Maier", "anna@uni.test", "web-0", "192.0.2.7", str(machine.key), "machine.", "machine.start"):
        assert listed(client, q=term) == ["machine.start"], term
    assert listed(client, q="nobody") == []


def test_a_name_that_looks_like_an_action_is_found(client, staff):
    meier = make_user("jo.meier")
    audit.record("machine.start", acting_user=meier, target=make_machine("web-07"))
    audit.record("user.signed_in", acting_user=staff, target=staff)
    assert listed(client, q="jo.meier") == listed(client, q="jo.m") == ["machine.start"]


def test_every_action_is_in_one_of_the_groups():
    beginnings = tuple(beginning for _label, beginnings in record_words.GROUPS.values() for beginning in beginnings)
    assert [action for action in record_words._SENTENCES if not action.startswith(beginnings)] == []


def test_it_is_narrowed(client, staff, anna):
    machine = make_machine()
    audit.record("machine.start", acting_user=anna, target=machine)
    audit.record("user.sign_in_failed", acting_user=None, target=staff, outcome="refused")
    assert listed(client, group="machines") == ["machine.start"]
    assert listed(client, result="not") == ["user.sign_in_failed"]
    assert listed(client, kind="machine") == ["machine.start"]
    assert listed(client, actor=anna.pk) == ["machine.start"]
    assert listed(client, object=f"machine:{machine.key}") == ["machine.start"]
    assert len(listed(client, group="nonsense", actor="x", object="y", since="never", until="2026-13-99")) == 2


def test_it_is_narrowed_to_days(client, staff):
    for days in (0, 3, 40):
        AuditEntry.objects.create(at=timezone.now() - timedelta(days=days), action=f"days.{days}")
    today = timezone.localdate()
    assert listed(client, since=today.isoformat()) == ["days.0"]
    assert set(listed(client, since=(today - timedelta(days=3)).isoformat())) == {"days.0", "days.3"}
    assert listed(client, until=(today - timedelta(days=4)).isoformat()) == ["days.40"]
    assert listed(client, since=(today - timedelta(days=3)).isoformat(), until=(today - timedelta(days=3)).isoformat()) == ["days.3"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_days_that_are_none_everywhere_narrow_nothing(client, zone, day):
    client.force_login(make_user("eve", role="staff", time_zone=zone))
    audit.record("machine.start", acting_user=None)
    for name in ("since", "until"):
        assert "machine.start" in listed(client, **{name: day})
        assert "machine.start" in b"".join(client.get(f"{LIST}export/csv/", {name: day}).streaming_content).decode()


def test_what_is_narrowed_by_nothing_known_leads_back_to_the_list(client, staff):
    assert client.get(f"{LIST}export/csv/?nonsense=1").url == LIST


@pytest.mark.parametrize("query", ["q=a%00b", "kind=%00", "object=machine:%00", "group=%00", "%00=x"])
@pytest.mark.parametrize("page", ["", "export/csv/"])
def test_a_letter_that_a_database_refuses_is_the_browsers_mistake(client, staff, page, query):
    assert client.get(f"{LIST}{page}?{query}").status_code == client.get(f"{LIST}%00/change/").status_code == 400
    assert client.get(f"{LIST}{page}?q=%2500").status_code == 200  # which stands for a percent sign and two digits


def test_the_list_costs_the_same_however_long(client, staff, django_assert_max_num_queries):
    for number in range(150):
        audit.record("machine.start", acting_user=make_user(f"p{number}"), target=make_machine(f"m{number}"))
    with django_assert_max_num_queries(12) as few:
        client.get(LIST)
    assert not any("COUNT(*)" in query["sql"] and "LIMIT" not in query["sql"] for query in few.captured_queries if "auditentry" in query["sql"])


def test_nobody_changes_it_there(client, staff):
    entry = audit.record("test", acting_user=staff)
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{entry.pk}/change/", {"action": "x"}).status_code == 403
    assert client.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_only_staff_read_it(client, role):
    client.force_login(make_user(role=role))
    for page in (LIST, f"{LIST}export/csv/"):
        assert client.get(page).status_code in (302, 403)


# -- as a file ------------------------------------------------------------------------------------


def exported(client, name, **query):
    response = client.get(f"{LIST}export/{name}/", query)
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def test_what_is_narrowed_is_exported_and_that_is_recorded(client, staff, anna):
    machine = make_machine("web-07")
    audit.record("machine.start", acting_user=anna, target=machine, operation="42")
    audit.record("user.signed_out", acting_user=anna, target=anna)
    [row] = csv.DictReader(io.StringIO(exported(client, "csv", group="machines")))
    assert (row["action"], row["actor_name"], row["object_id"], json.loads(row["data"])) == ("machine.start", "anna", str(machine.key), {"operation": "42"})
    [line] = exported(client, "jsonl", group="machines").splitlines()
    assert json.loads(line)["data"] == {"operation": "42"}
    entry = AuditEntry.objects.filter(action="audit.export").last()
    assert (entry.actor, entry.data) == (staff, {"format": "csv", "narrowed": {"group": "machines"}})


def test_no_name_becomes_a_formula(client, staff):
    for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"):
        audit.record("test", acting_user=None, target_name=name)
    rows = list(csv.DictReader(io.StringIO(exported(client, "csv"), newline="")))
    assert all(row["object_name"].startswith("'") for row in rows if row["action"] == "test") and len(rows) >= 6


def test_there_are_these_two_kinds_of_file(client, staff):
    assert client.get(f"{LIST}export/xml/").status_code == 404
    assert client.post(f"{LIST}export/csv/").status_code == 404


def many(count):
    AuditEntry.objects.bulk_create([AuditEntry(action="machine.start", actor_name=f"person {n}", data={"n": n}) for n in range(count)], batch_size=1000)


def test_every_entry_is_exported_once_in_pieces(client, staff):
    many(2500)
    rows = list(csv.DictReader(io.StringIO(exported(client, "csv", group="machines"))))
    assert [json.loads(row["data"])["n"] for row in rows] == list(range(2499, -1, -1))


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_server_sends_it_piece_by_piece():
    staff = make_user("eve", role="staff")
    many(5000)
    browser = AsyncClient()

    async def fetch():
        await browser.aforce_login(staff)
        response = await browser.get(f"{LIST}export/jsonl/", {"group": "machines"})
        assert response.is_async
        size = lines = 0
        async for piece in response.streaming_content:
            size, lines = max(size, len(piece)), lines + piece.count(b"\n")
        return size, lines

    size, lines = async_to_sync(fetch)()
    assert lines == 5000
    assert size < 400_000  # a thousand entries


def test_memory_does_not_grow_with_the_record(client, staff):
    def peak(count):
        many(count)
        response = client.get(f"{LIST}export/csv/", {"group": "machines"})
        tracemalloc.start()
        try:
            lines = sum(piece.count(b"\n") for piece in response.streaming_content)
            return tracemalloc.get_traced_memory()[1], lines
        finally:
            tracemalloc.stop()

    (small, _), (large, lines) = peak(2000), peak(20_000)
    assert lines > 20_000
    assert large < 1.5 * small


def test_searching_uses_the_indexes():
    many(10)
    for narrowed in ({"object_type": "machine", "object_id": "x"}, {"actor_id": 1}, {"address": "192.0.2.7"}):
        plan = AuditEntry.objects.filter(**narrowed).explain()
        assert connection.vendor != "sqlite" or "USING INDEX" in plan, plan
