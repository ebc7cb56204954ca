"""The API: how it lets in, how it says no, how lists come in parts, and that nothing that is sent breaks it."""

import functools
import json
import logging
from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import AuditEntry, Role, RolePolicy
from accounts.services import tokens
from labportal.api import api
from machines.lifecycle import State
from machines.models import MachineRequest, Operation, Tier
from tests.classes.rows import enrol, make_class, make_invite, make_place
from tests.factories import make_machine, make_operation, make_request, make_template, make_user
from tests.test_url_matrix import make_world
from tests.tokens import API, Program, make_token

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_counted():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def user():
    return make_user()


@pytest.fixture
def program(user):
    return Program(make_token(user))


def said(answer):
    return answer.status_code, answer.json()["code"]


# -- letting in ------------------------------------------------------------------------------------


def test_a_token_says_whom_it_stands_for(user, program):
    assert program.get("me").json() == {
        "username": user.username,
        "name": "",
        "email": user.email,
        "role": "student",
        "token": "script",
        "scopes": ["read", "power"],
        "expires_at": json.loads(json.dumps(user.api_tokens.get().expires_at.isoformat().replace("+00:00", "Z")[:23] + "Z")),
    }


WRONG_HEADERS = ["", "Bearer", "Bearer ", "Basic {}", "Token {}", "{}", "Bearer{}"]


@pytest.mark.parametrize("header", WRONG_HEADERS)
def test_a_token_elsewhere_than_after_bearer_is_none(user, header, caplog):
    secret = make_token(user)
    with override_settings(DEBUG=True):  # ninja logs strange headers then
        answer = Client(headers={"Authorization": header.format(secret)}).get(f"{API}/me")
    assert said(answer) == (401, "token_missing")
    assert answer["WWW-Authenticate"] == "Bearer"
    assert secret not in caplog.text
    assert not AuditEntry.objects.filter(action="token.refused").exists()


def test_a_token_in_the_address_or_the_body_or_a_cookie_is_none(user):
    secret = make_token(user)
    client = Client()
    client.cookies["token"] = secret
    for answer in (
        client.get(f"{API}/me", {"token": secret, "access_token": secret}),
        client.post(f"{API}/machines/{uuid4()}/start", {"token": secret}, content_type="application/json"),
    ):
        assert said(answer) == (401, "token_missing")


def wrong_tokens(user):
    def made(name, **columns):
        token, secret = tokens.make(user, name=name, scopes=[], expires_at=timezone.now() + timedelta(days=1))
        for column, value in columns.items():
            setattr(token, column, value)
        token.save()
        return secret

    good = made("good")
    yield "lp_" + "A" * 43 + "00000000", "token_unknown"
    yield good[:-1], "token_unknown"
    yield good + " " + good, "token_unknown"
    yield "\x00", "token_unknown"
    yield "ü" * 200, "token_unknown"
    yield "x" * 20_000, "token_unknown"
    yield tokens._new_secret(), "token_unknown"  # of the right shape, and nobody's
    yield made("revoked", revoked_at=timezone.now()), "token_revoked"
    yield made("expired", expires_at=timezone.now() - timedelta(seconds=1)), "token_expired"


def test_every_wrong_token_is_refused_and_recorded_without_itself(user, caplog):
    caplog.set_level(logging.DEBUG)
    for secret, code in wrong_tokens(user):
        answer = Program(secret).get("me")
        assert said(answer) == (401, code), secret
        assert answer["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        entry = AuditEntry.objects.first()
        assert (entry.action, entry.outcome, entry.actor, entry.address) == ("token.refused", code, None, "127.0.0.1")
        kept = f"{caplog.text}{entry.data}{entry.object_name}"
        assert len(secret) < 10 or secret not in kept
        assert (entry.object_id != "") is (code in ("token_revoked", "token_expired"))


def test_a_closed_account_and_one_that_owes_a_second_factor_are_refused(user, program):
    RolePolicy.objects.update_or_create(role=Role.STUDENT, defaults={"second_factor": True})
    assert said(program.get("me")) == (401, "second_factor")
    RolePolicy.objects.all().delete()
    user.is_active = False
    user.save()
    assert said(program.get("me")) == (401, "account_closed")


def test_what_is_done_by_a_token_is_recorded_with_it(user, program):
    machine = make_machine(owner=user)
    assert program.post(f"machines/{machine.key}/start").status_code == 202
    entry = AuditEntry.objects.get(action="machine.start")
    assert (entry.actor, entry.address) == (user, "127.0.0.1")
    assert (entry.data["token"], entry.data["token_name"]) == (str(user.api_tokens.get().key), "script")


def test_answers_are_kept_by_nobody_and_read_by_no_other_site(program):
    answer = program.get("me", headers={"Origin": "https://evil.test"})
    assert "Access-Control-Allow-Origin" not in answer
    assert "no-store" in answer["Cache-Control"] and answer["X-Content-Type-Options"] == "nosniff" and not answer.cookies


def test_the_schema_is_there_for_every_program_and_says_nothing_of_this_portal(client):
    answer = client.get(f"{API}/openapi.json")
    assert answer.status_code == 200 and answer.json()["components"]["securitySchemes"] == {"Bearer": {"type": "http", "scheme": "bearer"}}
    assert "testserver" not in answer.content.decode()


def test_the_page_of_what_programs_can_do_names_every_endpoint_with_its_scope(client, user):
    client.force_login(user)
    page = client.get(f"{API}/docs").content.decode()
    for path, operations in api.get_openapi_schema()["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in page


# -- too many --------------------------------------------------------------------------------------


def limited(**rates):
    from django.conf import settings as configured

    return override_settings(ACCOUNT_RATE_LIMITS=configured.ACCOUNT_RATE_LIMITS | rates)


def test_wrong_tokens_of_a_network_are_limited_and_good_ones_are_not(program):
    guess = Program("lp_guess")
    with limited(api_token_failed="3/5m/ip"):
        assert [guess.get("me").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        assert said(guess.get("me")) == (429, "too_many_failures")
        assert guess.get("me")["Retry-After"] == "300"
        assert program.get("me").status_code == 200  # of the same network
        assert guess.client.get(f"{API}/me", REMOTE_ADDR="192.0.2.9").status_code == 401
    assert AuditEntry.objects.filter(action="token.refused").count() == 4


def test_requests_are_limited_by_token(user, program):
    other = Program(make_token(user, name="other"))
    with limited(api="2/1m/key"):
        assert [program.get("me").status_code for _ in range(3)] == [200, 200, 429]
        answer = program.get("me")
        assert (said(answer), answer["Retry-After"]) == ((429, "too_many_requests"), "60")
        assert other.get("me").status_code == 200
        with time_machine.travel(timezone.now() + timedelta(seconds=61), tick=False):
            assert program.get("me").status_code == 200


# -- saying no -------------------------------------------------------------------------------------


def test_what_is_not_there_is_answered_like_what_one_may_not_see(program):
    hidden, missing = program.get(f"machines/{make_machine().key}"), program.get(f"machines/{uuid4()}")
    assert (hidden.status_code, hidden.content) == (404, missing.content)
    assert said(hidden) == (404, "not_found")


@pytest.mark.parametrize("path", ["nothing", "machines/", "machines/x", "machines/a/b/c", "people/-1", "../v1/nothing", "../v2/me"])
def test_a_path_that_is_none_says_so_to_programs(program, path):
    for method in ("get", "post", "delete"):
        answer = program.ask(method, path)
        assert answer.status_code == 404 and answer["Content-Type"].startswith("application/json"), method


def test_what_cannot_be_done_now_is_refused_with_its_code(user, program):
    machine = make_machine(owner=user, state=State.RUNNING, name="web")
    assert (said(program.post(f"machines/{machine.key}/start"))) == (409, "not_now")
    assert program.post(f"machines/{machine.key}/start").json()["message"] == "web is on already."


@pytest.mark.parametrize(
    ("path", "where"), [("machines?limit=101", "limit"), ("machines?limit=0", "limit"), ("machines?after=x", "after"), ("machines?state=odd", "state")]
)
def test_what_is_invalid_is_named_and_not_sent_back(program, path, where):
    answer = program.get(path)
    assert said(answer) == (422, "invalid") and answer.json()["message"].startswith(where)


def test_a_method_that_a_path_does_not_take(program):
    answer = program.ask("delete", "me")
    assert said(answer) == (405, "wrong_method")
    assert "GET" in answer["Allow"]


def test_a_body_that_is_too_large(program):
    assert said(program.post("requests", {"purpose": "x" * 3_000_000})) == (413, "too_large")


def test_more_parameters_than_the_portal_reads(program):
    assert said(program.get(f"machines?{'a=1&' * 1001}")) == (400, "malformed")


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"template": 1e400}', b"[" * 100_000, b"9" * 5000])
def test_a_body_that_is_no_json_is_malformed(program, body):
    answer = program.client.generic("POST", f"{API}/requests", body, content_type="application/json")
    assert said(answer) in ((400, "malformed"), (422, "invalid"))


# -- machines --------------------------------------------------------------------------------------


def test_a_person_lists_their_machines_and_a_teacher_all_of_their_classes():
    world = make_world()
    mine = make_machine("mine", owner=world.people["teacher"])
    make_machine("of-nobody")
    program = Program(make_token(world.people["teacher"]))
    assert [machine["name"] for machine in program.get("machines").json()["items"]] == ["mine"]
    everything = program.get("machines", {"all": True}).json()["items"]
    assert {machine["name"] for machine in everything} == {"mine", world.machine.name, world.failed.name}
    of_class = next(machine for machine in everything if machine["name"] == world.machine.name)
    assert (of_class["lab_class"], of_class["owner"], of_class["state"]) == ("Web", "owner", "running")
    assert [machine["name"] for machine in program.get("machines", {"all": True, "state": "failed"}).json()["items"]] == [world.failed.name]
    assert [machine["name"] for machine in program.get("machines", {"cluster": mine.cluster_id}).json()["items"]] == ["mine"]
    staff = Program(make_token(world.people["staff"]))
    assert "of-nobody" in {machine["name"] for machine in staff.get("machines", {"all": True}).json()["items"]}


def test_no_secret_of_a_machine_is_told(user, program):
    machine = make_machine(owner=user, password="secret-word", ssh_private_key="secret-key")
    for answer in (program.get("machines"), program.get(f"machines/{machine.key}")):
        assert "secret" not in answer.content.decode()


def test_an_operation_is_followed_from_the_answer_on(user, program):
    machine = make_machine(owner=user)
    begun = program.post(f"machines/{machine.key}/start").json()
    again = program.post(f"machines/{machine.key}/start").json()
    assert again["key"] == begun["key"] and Operation.objects.count() == 1
    followed = program.get(f"operations/{begun['key']}").json()
    assert (followed["kind"], followed["state"], followed["position"], followed["asked_by"]) == ("start", "queued", 1, user.username)
    assert program.get(f"machines/{machine.key}").json()["operation"]["key"] == begun["key"]


def test_a_machine_is_reverted_to_a_snapshot_that_there_is(user, program):
    machine = make_machine(owner=user)
    assert said(program.post(f"machines/{machine.key}/revert", {"snapshot": "clean"})) == (409, "no_snapshot")
    machine.snapshots.create(name="clean", ready=True)
    assert program.get(f"machines/{machine.key}").json()["snapshots"] == ["clean"]
    assert program.post(f"machines/{machine.key}/revert", {"snapshot": "clean"}).status_code == 202


# -- requests --------------------------------------------------------------------------------------


def test_a_machine_is_asked_for_once_however_often_it_is_sent(user, program):
    template, tier = make_template(name="Debian"), Tier.objects.first()
    wish = {"template": template.pk, "tier": tier.pk, "reason": "A web server."}
    answers = [program.post("requests", wish, headers={"Idempotency-Key": "mine-1"}) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201} and len({answer.json()["key"] for answer in answers}) == 1
    assert MachineRequest.objects.count() == 1
    program.post("requests", wish)
    assert MachineRequest.objects.count() == 2
    other = Program(make_token(make_user()))
    assert other.post("requests", wish, headers={"Idempotency-Key": "mine-1"}).json()["person"] != user.username
    listed = program.get("requests").json()["items"]
    assert [one["template"]["name"] for one in listed] == ["Debian", "Debian"] and listed[1]["key"] == answers[0].json()["key"]


def test_a_wish_that_is_sent_again_is_the_request_it_was_whatever_is_offered_now(program):
    template = make_template(name="Debian")
    wish = {"template": template.pk, "tier": Tier.objects.first().pk, "reason": "A web server."}
    first = program.post("requests", wish, headers={"Idempotency-Key": "mine-1"})
    template.active = False
    template.save()
    again = program.post("requests", wish, headers={"Idempotency-Key": "mine-1"})
    assert (again.status_code, again.json()["key"]) == (201, first.json()["key"])
    assert said(program.post("requests", wish, headers={"Idempotency-Key": "mine-2"})) == (422, "invalid")


def test_a_wish_is_held_to_the_rules_of_the_page(program):
    template, tier = make_template(), Tier.objects.first()
    hidden = make_template(audience="staff", ref="hidden")
    for wrong in (
        {"template": hidden.pk},
        {"tier": 10**6},
        {"reason": ""},
        {"reason": "x" * 1001},
        {"until": "2001-01-01"},
        {"template": 2**63},
        {"reason": "a\x00b"},
    ):
        assert said(program.post("requests", {"template": template.pk, "tier": tier.pk, "reason": "Web", **wrong})) == (422, "invalid"), wrong
    assert [one["id"] for one in program.get("templates").json()["items"]] == [template.pk]
    for _ in range(3):
        program.post("requests", {"template": template.pk, "tier": tier.pk, "reason": "Web"})
    assert said(program.post("requests", {"template": template.pk, "tier": tier.pk, "reason": "Web"})) == (409, "too_many")


# -- classes ---------------------------------------------------------------------------------------


def test_a_teacher_makes_a_class_invites_people_and_starts_its_machines():
    teacher = make_user(role=Role.TEACHER)
    program = Program(make_token(teacher))
    made = program.post("classes", {"name": "Networks", "template": make_template().pk, "machines": 2})
    assert made.status_code == 201 and made.json()["counts"]["machines"] == 2
    key = made.json()["key"]
    more = program.post(f"classes/{key}/machines", {"count": 1})
    assert more.status_code == 202 and more.json()["waiting"] == 1
    assert program.get(f"batches/{more.json()['key']}").json()["title"] == "1 machine for Networks"
    invite = program.post(f"classes/{key}/invites", {"lasts": "day", "max_uses": 30}).json()
    assert invite["link"].startswith("http://") and invite["open"] and invite["max_uses"] == 30
    assert [one["id"] for one in program.get(f"classes/{key}/invites").json()["items"]] == [invite["id"]]
    assert program.ask("delete", f"classes/{key}/invites/{invite['id']}").status_code == 204
    assert program.get(f"classes/{key}/invites").json()["items"] == []
    begun = program.post(f"classes/{key}/start").json()
    assert (begun["batch"], begun["begun"], len(begun["skipped"])) == (None, 0, 3)  # they are being made
    with override_settings(CLASS_MAX_MACHINES=3):
        assert said(program.post(f"classes/{key}/machines", {"count": 1})) == (409, "too_many")


def test_work_on_a_class_is_for_all_its_machines_or_for_chosen_ones():
    teacher = make_user(role=Role.TEACHER)
    lab_class = make_class(teacher=teacher)
    first, second, foreign = make_place(lab_class), make_place(lab_class), make_place(make_class())
    student = make_user("ada")
    enrol(lab_class, student)
    program = Program(make_token(teacher))
    keys = [str(first.machine.key), str(foreign.machine.key), str(foreign.machine.key), str(uuid4())]
    begun = program.post(f"classes/{lab_class.key}/start", {"machines": keys}).json()
    assert begun["begun"] == 1
    assert sorted(begun["skipped"], key=lambda one: one["machine"]) == [{"machine": key, "why": "The class has no such machine."} for key in sorted(keys[2:])]
    assert program.post(f"classes/{lab_class.key}/start", {"machines": []}).json() == {"batch": None, "begun": 0, "skipped": []}
    assert program.get(f"batches/{begun['batch']}").json()["waiting"] == 1
    again = program.post(f"classes/{lab_class.key}/start").json()
    assert (again["begun"], [skipped["machine"] for skipped in again["skipped"]]) == (1, [first.machine.name])
    assert said(program.post(f"classes/{lab_class.key}/explode")) == (422, "invalid")
    foreign.machine.refresh_from_db()
    assert foreign.machine.state == State.STOPPED
    listed = program.get(f"classes/{lab_class.key}/machines").json()["items"]
    assert [(place["name"], place["student"]) for place in listed] == [(first.machine.name, "ada"), (second.machine.name, None)]
    enrolled = program.get(f"classes/{lab_class.key}/students").json()["items"]
    assert [(one["username"], one["machine"]) for one in enrolled] == [("ada", str(first.machine.key))]


def test_a_student_sees_the_class_they_are_in_without_its_figures(user, program):
    lab_class = make_class()
    make_class()
    enrol(lab_class, user)
    [seen] = program.get("classes").json()["items"]
    assert (seen["key"], seen["runs"], seen["counts"]) == (str(lab_class.key), False, None)


# -- people and the record -------------------------------------------------------------------------


def test_staff_find_people_and_read_the_record():
    staff = make_user("grace", role=Role.STAFF)
    ada = make_user("ada", first_name="Ada", last_name="Lovelace")
    program = Program(make_token(staff))
    assert [one["username"] for one in program.get("people", {"search": "love ADA"}).json()["items"]] == ["ada"]
    assert program.get(f"people/{ada.pk}").json()["email"] == "ada@uni.test"
    assert program.get(f"people/{10**30}").status_code in (404, 422)
    found = program.get("audit", {"action": "token.", "person": "grace"}).json()["items"]
    assert [entry["action"] for entry in found] == ["token.use", "token.make"]
    later = (timezone.now() + timedelta(hours=1)).isoformat()
    assert program.get("audit", {"since": later}).json() == {"items": [], "next": None}
    assert said(program.get("audit", {"since": "2026-01-01T00:00"})) == (422, "invalid")
    for name, moment in (("since", "0001-01-01T00:00:00+14:00"), ("until", "9999-12-31T23:59:59-12:00")):
        assert said(program.get("audit", {name: moment})) == (422, "invalid")


# -- long lists ------------------------------------------------------------------------------------


def many(world, count):
    """Rows of everything that is listed."""
    owner, lab_class = world.people["staff"], world.lab_class
    for number in range(count):
        machine = make_machine(owner=owner, state=State.STARTING)
        make_operation(machine, requested_by=make_user())
        make_request(owner, template=machine.template, machine=machine)
        enrolled = make_user()
        make_place(lab_class)
        enrol(lab_class, enrolled)
        make_class(f"Class {count} {number}", teacher=world.people["teacher"])
        make_invite(lab_class)


LISTS = [
    "machines",
    "machines?all=1",
    "requests",
    "classes",
    "templates",
    "people",
    "audit",
    "classes/{}/students",
    "classes/{}/machines",
    "classes/{}/invites",
]


def queries_of(program, path):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = program.get(path)
    assert answer.status_code == 200
    return len(captured), len(answer.json()["items"])


def test_lists_cost_as_many_queries_however_long_they_are():
    world = make_world()
    program = Program(make_token(world.people["staff"]))
    program.get("me")  # the first use is recorded
    counted = []
    for count in (1, 9, 40):
        many(world, count)
        counted.append({path: queries_of(program, path.format(world.lab_class.key) + ("&" if "?" in path else "?") + "limit=100") for path in LISTS})
    for path in LISTS:
        assert len({queries for queries, _items in (each[path] for each in counted)}) == 1, (path, counted)
        assert counted[0][path][1] < counted[2][path][1], path
        assert counted[0][path][0] <= 12, path


def test_a_list_comes_whole_in_parts_while_rows_come_and_go():
    user = make_user()
    made = [make_machine(owner=user) for _ in range(7)]
    program = Program(make_token(user))
    seen, after = [], None
    while True:
        part = program.get("machines", {"limit": 3} | ({"after": after} if after else {})).json()
        seen += [machine["key"] for machine in part["items"]]
        if after is None:
            made[0].delete()  # of what was seen
        after = part["next"]
        if after is None:
            break
    assert seen == [str(machine.key) for machine in made]


# -- whatever is sent ------------------------------------------------------------------------------

_WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "0", "-1", "1", str(2**63), "9" * 400, "null", "true", "\x00", "a\x00", "%00", "../..", "2026-13-99", "+00:00", "’; DROP", "\ud800"]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def _operations():
    return list(_walked())


def _walked():
    for path, operations in api.get_openapi_schema()["paths"].items():
        for method, operation in operations.items():
            names = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            yield method, path.removeprefix("/api/v1/"), names, list(_properties(body))


def _properties(schema):
    schemas = api.get_openapi_schema()["components"]["schemas"]
    for part in [schema, *schema.get("anyOf", [])]:
        if "$ref" in part:
            part = schemas[part["$ref"].rpartition("/")[2]]
        yield from part.get("properties", {})


class TestAnything(TestCase):
    """Of what is sent to any endpoint by somebody who may do everything, nothing is an error of the portal's."""

    @classmethod
    def setUpTestData(cls):
        cls.world = make_world()
        cls.secret = make_token(cls.world.people["staff"])
        cls.there = {
            "machines": cls.world.machine.key,
            "classes": cls.world.lab_class.key,
            "operations": cls.world.operation.key,
            "requests": cls.world.wish.key,
            "batches": cls.world.batch.key,
            "people": cls.world.people["owner"].pk,
        }

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_is_answered(self, data):
        cache.clear()
        method, path, names, fields = data.draw(st.sampled_from(_operations()))
        key = data.draw(st.one_of(st.just(str(self.there.get(path.split("/")[0], ""))), _WORDS))
        verb = data.draw(st.one_of(st.sampled_from(["start", "stop", "restart", "force-off", "revert"]), _WORDS))
        number = data.draw(st.one_of(st.just(str(self.world.invite.pk)), _WORDS))
        if path.startswith("people/"):
            number = key
        url = path.replace("{key}", quoted(key)).replace("{verb}", quoted(verb)).replace("{number}", quoted(number))
        query = data.draw(st.dictionaries(st.sampled_from([*names, "odd"]), _WORDS, max_size=4))
        text = "&".join(f"{name}={quoted(value)}" for name, value in query.items())
        body = data.draw(st.one_of(_JSON, st.dictionaries(st.sampled_from([*fields, "odd"]), _JSON, max_size=4))) if method == "post" else None
        idempotency = data.draw(st.sampled_from(["", "x", "x" * 300, "ü"]))
        program = Program(self.secret)
        answer = (
            program.ask(method, f"{url}?{text}", body, headers={"Idempotency-Key": idempotency})
            if method != "get"
            else program.client.get(f"{API}/{url}?{text}")
        )
        assert answer.status_code in (200, 201, 202, 204, 400, 404, 405, 409, 422), answer.content
        if answer.status_code >= 400 and answer.status_code != 405:
            assert set(answer.json()) == {"code", "message"}


def quoted(text):
    return quote(text.encode(errors="surrogatepass"), safe="")
