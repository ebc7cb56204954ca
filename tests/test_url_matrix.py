"""Every URL against every role: who sees what, and that what one may not see does not exist for one.

The resolver is walked: a URL that is not in the matrix fails, and so does one that is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from django.views.generic import RedirectView

from accounts.models import Role, SshKey
from accounts.services import tokens
from classes.services.invites import link_token
from machines.lifecycle import State
from tests.classes.rows import enrol, make_class, make_invite, make_place
from tests.factories import make_batch, make_machine, make_operation, make_request, make_user

pytestmark = pytest.mark.django_db

# The student whose machine it is, another student, the teacher of the class, another teacher.
PERSONAS = ("anonymous", "owner", "student", "teacher", "colleague", "staff")

LOGIN = "login"  # led to the sign-in page
OK, SEE_OTHER, NO_CONTENT, CONFLICT, FORBIDDEN, NOT_FOUND, NOT_ALLOWED = 200, 302, 204, 409, 403, 404, 405


@dataclass(frozen=True)
class Row:
    """What GET and POST answer, for each persona in turn or the same for all."""

    get: Any
    post: Any
    args: Any = field(default=lambda world: [])  # the URL's arguments
    data: Any = field(default=lambda world: {})  # what is posted


def machine(world):
    return [world.machine.key]


def wish(world):
    return [world.wish.key]


def lab_class(world):
    return [world.lab_class.key]


def verb(word):
    return lambda world: [world.machine.key, word]


# anonymous, owner, student, teacher, colleague, staff
VISIBLE = (LOGIN, OK, NOT_FOUND, OK, NOT_FOUND, OK)
REFUSED = (LOGIN, CONFLICT, NOT_FOUND, CONFLICT, NOT_FOUND, CONFLICT)  # it is on already, nothing failed, there is no such snapshot
CAN_DO = (LOGIN, SEE_OTHER, NOT_FOUND, SEE_OTHER, NOT_FOUND, SEE_OTHER)
STAFF_OF_MACHINE = (LOGIN, FORBIDDEN, NOT_FOUND, FORBIDDEN, NOT_FOUND, OK)
STAFF_DOES = (LOGIN, FORBIDDEN, NOT_FOUND, FORBIDDEN, NOT_FOUND, SEE_OTHER)
STAFF_ONLY = (LOGIN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK)
RUNS_CLASS = (LOGIN, FORBIDDEN, NOT_FOUND, OK, NOT_FOUND, OK)
RUNS_CLASS_DOES = (LOGIN, FORBIDDEN, NOT_FOUND, SEE_OTHER, NOT_FOUND, SEE_OTHER)
BATCH = (LOGIN, NOT_FOUND, NOT_FOUND, OK, NOT_FOUND, OK)
OWN = (LOGIN, OK, NOT_FOUND, NOT_FOUND, NOT_FOUND, OK)
SIGNED_IN = (LOGIN, OK, OK, OK, OK, OK)
DOORS = (OK, SEE_OTHER, SEE_OTHER, SEE_OTHER, SEE_OTHER, SEE_OTHER)  # pages for those who are not signed in yet

MATRIX: dict[str, Row] = {
    "labportal:health": Row(503, NOT_ALLOWED),  # no worker runs here
    "labportal:alive": Row(OK, NOT_ALLOWED),
    "accounts:stop_viewing": Row(NOT_ALLOWED, (LOGIN, *[SEE_OTHER] * 5)),  # nobody is viewed: back to the start page
    # -- machines
    "machines:mine": Row(SIGNED_IN, NOT_ALLOWED),
    "machines:machines": Row(STAFF_ONLY, NOT_ALLOWED),
    "machines:operations": Row(STAFF_ONLY, NOT_ALLOWED),
    "machines:machine": Row(VISIBLE, NOT_ALLOWED, machine),
    "machines:history": Row(VISIBLE, NOT_ALLOWED, machine),
    "machines:operation": Row(VISIBLE, NOT_ALLOWED, lambda world: [world.operation.key]),
    "machines:credentials": Row(NOT_ALLOWED, VISIBLE, machine),
    "machines:rdp": Row((LOGIN, CONFLICT, NOT_FOUND, CONFLICT, NOT_FOUND, CONFLICT), NOT_ALLOWED, machine),  # its template has none
    "machines:look_again": Row(NOT_ALLOWED, CAN_DO, machine),
    "machines:snapshot": Row(VISIBLE, CAN_DO, machine, lambda world: {"name": "clean"}),
    "machines:resize": Row(RUNS_CLASS, (LOGIN, FORBIDDEN, NOT_FOUND, CONFLICT, NOT_FOUND, CONFLICT), machine, lambda world: {"cores": 0}),
    "machines:power start": Row(CAN_DO, REFUSED, verb("start")),
    "machines:power stop": Row(CAN_DO, CAN_DO, verb("stop")),
    "machines:power restart": Row(VISIBLE, CAN_DO, verb("restart")),
    "machines:power force-off": Row(VISIBLE, CAN_DO, verb("force-off")),
    "machines:power revert": Row(VISIBLE, CAN_DO, verb("revert")),
    "machines:power retry": Row(CAN_DO, REFUSED, verb("retry")),
    "machines:power cancel": Row(CAN_DO, CAN_DO, verb("cancel"), lambda world: {"operation": world.operation.key}),
    "machines:power delete-snapshot": Row(VISIBLE, REFUSED, verb("delete-snapshot"), lambda world: {"snapshot": "none"}),
    "machines:power delete": Row(STAFF_OF_MACHINE, STAFF_DOES, verb("delete")),
    # -- requests: the one of the owner is seen by its person and staff
    "machines:requests": Row(SIGNED_IN, NOT_ALLOWED),
    "machines:ask": Row(SIGNED_IN, (LOGIN, *[OK] * 5)),  # an empty form is shown again
    "machines:request": Row(OWN, NOT_ALLOWED, wish),
    "machines:withdraw": Row((LOGIN, OK, NOT_FOUND, NOT_FOUND, NOT_FOUND, FORBIDDEN), (LOGIN, SEE_OTHER, NOT_FOUND, NOT_FOUND, NOT_FOUND, FORBIDDEN), wish),
    # -- consoles
    "console:screen": Row(VISIBLE, (LOGIN, *[NOT_ALLOWED] * 5), machine),
    "console:terminal": Row(VISIBLE, (LOGIN, *[NOT_ALLOWED] * 5), machine),
    "console:state": Row(VISIBLE, (LOGIN, *[NOT_ALLOWED] * 5), machine),
    "console:ticket": Row(NOT_ALLOWED, (401, OK, NOT_FOUND, OK, NOT_FOUND, OK), machine, lambda world: {"kind": "screen"}),
    # -- classes
    "classes:list": Row(SIGNED_IN, NOT_ALLOWED),
    "classes:new": Row((LOGIN, FORBIDDEN, FORBIDDEN, OK, OK, OK), (LOGIN, FORBIDDEN, FORBIDDEN, OK, OK, OK)),  # an empty form is shown again
    "classes:lab_class": Row(VISIBLE, NOT_ALLOWED, lab_class),
    "classes:edit": Row(RUNS_CLASS, RUNS_CLASS, lab_class),
    "classes:archive": Row(RUNS_CLASS, RUNS_CLASS_DOES, lab_class),
    "classes:restore": Row((LOGIN, *[NOT_ALLOWED] * 5), RUNS_CLASS_DOES, lab_class),
    "classes:leave": Row((LOGIN, OK, NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND), (LOGIN, SEE_OTHER, NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND), lab_class),
    "classes:add_machines": Row(RUNS_CLASS, RUNS_CLASS_DOES, lab_class, lambda world: {"count": 1}),
    "classes:retry": Row((LOGIN, *[NOT_ALLOWED] * 5), RUNS_CLASS_DOES, lambda world: [world.lab_class.key, world.failed.key]),
    "classes:act": Row(RUNS_CLASS_DOES, RUNS_CLASS_DOES, lambda world: [world.lab_class.key, "start"], lambda world: {"all": "1"}),
    "classes:remove_students": Row(RUNS_CLASS_DOES, RUNS_CLASS_DOES, lab_class),  # nobody chosen
    "classes:new_invite": Row(RUNS_CLASS, RUNS_CLASS_DOES, lab_class, lambda world: {"lasts": "week"}),
    "classes:project": Row(RUNS_CLASS, (LOGIN, *[NOT_ALLOWED] * 5), lambda world: [world.lab_class.key, world.invite.pk]),
    "classes:revoke": Row(RUNS_CLASS, RUNS_CLASS_DOES, lambda world: [world.lab_class.key, world.invite.pk]),
    "classes:batch": Row(BATCH, NOT_ALLOWED, lambda world: [world.batch.key]),
    "classes:code": Row(OK, OK),
    "classes:join": Row((OK, SEE_OTHER, OK, OK, OK, OK), (LOGIN, *[SEE_OTHER] * 5), lambda world: [link_token(world.invite)]),
    # -- people
    "accounts:tokens": Row(SIGNED_IN, (LOGIN, *[NOT_ALLOWED] * 5)),
    "accounts:new_token": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),  # led to type the password again
    "accounts:revoke_tokens": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "accounts:revoke_token": Row((LOGIN, OK, *[NOT_FOUND] * 4), (LOGIN, SEE_OTHER, *[NOT_FOUND] * 4), lambda world: [world.token.key]),
    "api_docs": Row(SIGNED_IN, NOT_ALLOWED),
    "api_unknown": Row(NOT_FOUND, NOT_FOUND),
    "accounts:profile": Row(SIGNED_IN, SIGNED_IN),
    "accounts:ssh_keys": Row(SIGNED_IN, SIGNED_IN),  # an empty form is shown again
    "accounts:remove_ssh_key": Row((LOGIN, *[NOT_ALLOWED] * 5), (LOGIN, SEE_OTHER, *[NOT_FOUND] * 4), lambda world: [world.ssh_key.pk]),
    "accounts:sessions": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "accounts:end_session": Row((LOGIN, *[NOT_ALLOWED] * 5), (LOGIN, *[NOT_FOUND] * 5), lambda world: [0]),  # they have no such session
    "accounts:data": Row(SIGNED_IN, (LOGIN, *[NOT_ALLOWED] * 5)),
    "accounts:export": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),  # the password again first
    "accounts:ask_removal": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "accounts:take_back_removal": Row((LOGIN, *[NOT_ALLOWED] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "usersessions_list": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "account_login": Row(DOORS, DOORS),
    "account_signup": Row(DOORS, DOORS),
    "account_logout": Row((SEE_OTHER, OK, OK, OK, OK, OK), SEE_OTHER),
    "account_inactive": Row(OK, NOT_ALLOWED),
    "account_reauthenticate": Row(SIGNED_IN, SIGNED_IN),
    "account_email": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "accounts:addresses": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "account_email_verification_sent": Row(OK, NOT_ALLOWED),
    "account_confirm_email": Row(OK, NOT_FOUND, lambda world: ["no-such-key"]),
    "account_change_password": Row(SIGNED_IN, SIGNED_IN),
    "account_set_password": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "account_reset_password": Row(OK, OK),
    "account_reset_password_done": Row(OK, NOT_ALLOWED),
    "account_reset_password_from_key": Row(OK, OK, lambda world: ["1", "no-such-key"]),
    "account_reset_password_from_key_done": Row(OK, NOT_ALLOWED),
    "account_confirm_login_code": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    # -- single sign-on, where nothing is configured
    "accounts:connections": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "socialaccount_connections": Row(SIGNED_IN, (LOGIN, *[SEE_OTHER] * 5)),
    "socialaccount_signup": Row(LOGIN, LOGIN),  # nobody is on the way
    "socialaccount_login_cancelled": Row(OK, NOT_ALLOWED),
    "socialaccount_login_error": Row(401, NOT_ALLOWED),
    "openid_connect_login": Row(NOT_FOUND, NOT_FOUND, lambda world: ["uni"]),
    "openid_connect_callback": Row(NOT_FOUND, NOT_ALLOWED, lambda world: ["uni"]),
    "saml_login": Row(NOT_FOUND, NOT_FOUND, lambda world: ["uni"]),
    "saml_acs": Row(NOT_ALLOWED, NOT_FOUND, lambda world: ["uni"]),  # its POST has no token of ours: it is another site's
    "saml_finish_acs": Row(NOT_FOUND, NOT_ALLOWED, lambda world: ["uni"]),
    "saml_metadata": Row(NOT_FOUND, NOT_ALLOWED, lambda world: ["uni"]),
    "saml_sls": Row(NOT_FOUND, NOT_ALLOWED, lambda world: ["uni"]),
    # -- the second factor, of people who have none
    "mfa_index": Row(SIGNED_IN, (LOGIN, *[NOT_ALLOWED] * 5)),
    "mfa_authenticate": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "mfa_reauthenticate": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "mfa_activate_totp": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),  # the password again first
    "mfa_deactivate_totp": Row((LOGIN, *[NOT_FOUND] * 5), (LOGIN, *[NOT_FOUND] * 5)),
    "mfa_view_recovery_codes": Row((LOGIN, *[NOT_FOUND] * 5), (LOGIN, *[NOT_ALLOWED] * 5)),
    "mfa_generate_recovery_codes": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "mfa_download_recovery_codes": Row((LOGIN, *[NOT_FOUND] * 5), (LOGIN, *[NOT_FOUND] * 5)),
    "mfa_list_webauthn": Row(SIGNED_IN, (LOGIN, *[NOT_ALLOWED] * 5)),
    "mfa_add_webauthn": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "mfa_remove_webauthn": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5), lambda world: [17]),
    "mfa_edit_webauthn": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5), lambda world: [17]),
    "mfa_login_webauthn": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
    "mfa_reauthenticate_webauthn": Row((LOGIN, *[SEE_OTHER] * 5), (LOGIN, *[SEE_OTHER] * 5)),
}


def make_world() -> SimpleNamespace:
    """One class with a machine that is on and a machine that failed, and somebody of every role."""
    teacher = make_user("teacher", role=Role.TEACHER)
    people = {
        "anonymous": None,
        "owner": make_user("owner"),
        "student": make_user("student"),
        "teacher": teacher,
        "colleague": make_user("colleague", role=Role.TEACHER),
        "staff": make_user("staff", role=Role.STAFF),
    }
    lab_class = make_class("Web", teacher=teacher)
    place = make_place(lab_class, state=State.RUNNING, ssh_private_key="key", password="secret-word")
    enrol(lab_class, people["owner"])
    place.machine.refresh_from_db()
    assert place.machine.owner == people["owner"]
    failed = make_place(lab_class, state=State.FAILED, problem="The cluster's storage is full.").machine
    batch = make_batch()
    operation = make_operation(place.machine, state="succeeded", batch=batch, requested_by=people["owner"])
    ssh_key = SshKey.objects.create(user=people["owner"], name="laptop", text="ssh-ed25519 AAAA", fingerprint="SHA256:abc")
    wish = make_request(people["owner"], template=place.machine.template, reason=f"Beside {place.machine.name}.")
    token, _secret = tokens.make(people["owner"], name="laptop", scopes=[], expires_at=timezone.now() + timedelta(days=7))
    return SimpleNamespace(
        token=token,
        ssh_key=ssh_key,
        wish=wish,
        people=people,
        lab_class=lab_class,
        machine=place.machine,
        failed=failed,
        batch=batch,
        operation=operation,
        invite=make_invite(lab_class),
    )


@pytest.fixture
def world():
    return make_world()


def urls(resolver: URLResolver, namespace: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from urls(pattern, f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace)
        else:
            assert isinstance(pattern, URLPattern)
            if getattr(pattern.callback, "view_class", None) is RedirectView:
                continue  # old addresses of allauth's pages
            yield f"{namespace}{pattern.name}"


def test_every_url_is_in_the_matrix():
    from machines.views_power import VERBS

    # The API is not for sessions: tests/labportal/test_api_matrix.py has all of it.
    there = {name for name in urls(get_resolver()) if not name.startswith(("admin:", "api:"))} - {"machines:power"}
    there |= {f"machines:power {word}" for word in VERBS}
    assert there == set(MATRIX)


def answer(response) -> Any:
    if response.status_code == 302 and response.url.startswith(reverse("account_login")):
        return LOGIN
    return response.status_code


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", MATRIX)
def test_who_may_do_what(world, name, method):
    row = MATRIX[name]
    url = reverse(name.split()[0], args=row.args(world))
    expected = getattr(row, method)
    expected = expected if isinstance(expected, tuple) else (expected,) * len(PERSONAS)
    answered = []
    for persona in PERSONAS:
        client = Client()
        with transaction.atomic():  # each finds the world as it was made
            if (user := world.people[persona]) is not None:
                client.force_login(user)
            response = client.get(url) if method == "get" else client.post(url, row.data(world))
            answered.append(answer(response))
            transaction.set_rollback(True)
        if answered[-1] in (FORBIDDEN, NOT_FOUND, LOGIN):
            assert world.machine.name.encode() not in response.content, f"{persona} is told of the machine"
    assert dict(zip(PERSONAS, answered, strict=True)) == dict(zip(PERSONAS, expected, strict=True))


def test_what_is_not_there_is_answered_like_what_one_may_not_see(world):
    client = Client()
    client.force_login(world.people["student"])
    hidden = client.get(reverse("machines:machine", args=[world.machine.key]))
    missing = client.get(reverse("machines:machine", args=["00000000-0000-4000-8000-000000000000"]))
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert len(hidden.content) == len(missing.content)


def test_every_change_needs_the_csrf_token(world):
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.people["staff"])
    for name, row in MATRIX.items():
        if row.post == NOT_ALLOWED or name in ("saml_acs", "api_unknown"):  # the latter only says that there is nothing
            continue
        response = client.post(reverse(name.split()[0], args=row.args(world)), row.data(world))
        assert response.status_code == 403, name


# -- the admin -----------------------------------------------------------------------------------


def admin_urls(world) -> Iterator[tuple[str, str]]:
    """All of the admin that needs no other row than one of the world's, by name."""
    rows = {"user": world.people["owner"].pk, "machine": world.machine.pk, "operation": world.operation.pk, "batch": world.batch.pk}
    rows |= {
        "cluster": world.machine.cluster_id,
        "template": world.machine.template_id,
        "labclass": world.lab_class.pk,
        "machinerequest": world.wish.pk,
        "invite": world.invite.pk,
    }
    for name in {name for name in urls(get_resolver()) if name.startswith("admin:")}:
        *_, model, page = ("admin", *name.removeprefix("admin:").rsplit("_", 2))
        if page in ("changelist", "add", "index"):
            yield name, reverse(name)
        elif page in ("change", "delete", "history") and model in rows:
            yield name, reverse(name, args=[rows[model]])


def test_the_admin_is_for_staff(world):
    places = dict(admin_urls(world))
    assert len(places) > 40
    for persona in PERSONAS:
        client = Client()
        if (user := world.people[persona]) is not None:
            client.force_login(user)
        for name, url in places.items():
            status = client.get(url).status_code
            if persona == "staff":
                assert status == 200 or (status == 403 and name.endswith(("_add", "_delete", "_change"))), f"{name}: {status}"
            else:
                assert status in (302, 403), f"{name} for {persona}: {status}"
                if status == 302:
                    assert client.get(url, follow=True).redirect_chain[0][0].startswith(reverse("admin:login"))


def test_the_admin_shows_no_secret(world):
    client = Client()
    client.force_login(world.people["staff"])
    world.machine.cluster.secret = "cluster-secret"
    world.machine.cluster.save(update_fields=["secret"])
    for _name, url in admin_urls(world):
        text = client.get(url).content.decode()
        assert "secret-word" not in text and "cluster-secret" not in text


def test_only_machines_that_are_ones_own_are_listed(world):
    make_machine("of-nobody")
    for persona in ("owner", "student", "teacher", "colleague"):
        client = Client()
        client.force_login(world.people[persona])
        text = client.get("/").content.decode()
        assert (world.machine.name in text) is (persona == "owner")
        assert "of-nobody" not in text
