"""Staff look at the portal as somebody else sees it: nothing changes, nothing private is shown, everything is told."""

import contextlib

import pytest
from allauth.account.models import EmailAddress
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import get_user
from django.db import connections, transaction
from django.test import AsyncClient, Client, RequestFactory
from django.urls import NoReverseMatch, get_resolver, reverse
from django.utils import timezone

from accounts import viewing
from accounts.http import _CLICK
from accounts.models import AuditEntry, Role, User
from accounts.services import viewing as service
from accounts.services.refusal import PersonRefused
from machines.models import Operation
from tests.classes.rows import enrol, make_class, make_invite
from tests.factories import make_machine, make_user
from tests.test_url_matrix import urls

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    return make_user("anna", first_name="Anna", last_name="Maier")


@pytest.fixture
def sam():
    return make_user("sam", role=Role.STAFF)


@pytest.fixture
def look(client, sam, anna):
    """The browser of sam, who looks at the portal as anna."""
    client.force_login(sam)
    assert begin(client, anna).url == "/"
    return client


def begin(client, user):
    return client.post(reverse("admin:accounts_user_view_as", args=[user.pk]))


def text(response) -> str:
    return response.content.decode()


def test_the_pages_are_those_of_the_person_under_a_banner(look, anna):
    make_machine("hers", owner=anna)
    make_machine("of-somebody", owner=make_user())
    page = text(look.get("/"))
    assert "hers" in page and "of-somebody" not in page and reverse("admin:index") not in page
    assert "You see the portal as Anna Maier sees it. Nothing can be changed." in page and "Stop viewing" in page
    assert "data-live-url" not in page  # its WebSocket would be that of staff
    assert look.get(reverse("machines:machines")).status_code == 403


def test_nothing_can_be_changed(look, anna):
    machine = make_machine("hers", owner=anna)
    answer = look.post(reverse("machines:power", args=[machine.key, "start"]))
    assert answer.status_code == 403 and "Nothing was changed" in text(answer)
    assert not Operation.objects.exists()
    by_htmx = look.post(reverse("machines:power", args=[machine.key, "start"]), headers={"HX-Request": "true"})
    assert by_htmx.status_code == 403 and "Nothing can be changed" in by_htmx.headers["HX-Trigger"]
    for method in ("put", "patch", "delete", "options"):
        assert getattr(look, method)(reverse("machines:mine")).status_code == 403


@pytest.mark.parametrize("write", ["update", "insert", "delete"])
def test_a_page_that_writes_although_it_is_only_looked_at_does_not(look, anna, monkeypatch, write):
    def writing(user):
        with transaction.atomic():
            if write == "update":
                User.objects.filter(pk=anna.pk).update(first_name="Eve")
            elif write == "insert":
                AuditEntry.objects.create(action="of.anna")
            else:
                EmailAddress.objects.filter(user=anna).delete()

    monkeypatch.setattr("machines.views_requests.quota_of", writing)
    assert look.get(reverse("machines:requests")).status_code == 403
    assert User.objects.get(pk=anna.pk).first_name == "Anna" and not AuditEntry.objects.filter(action="of.anna").exists()
    assert EmailAddress.objects.filter(user=anna).exists()


def test_a_click_of_staff_is_none_of_the_person(client, sam, anna):
    """A class joined by a click before signing in is joined by the page that follows, with no further click."""
    client.force_login(sam)
    lab_class = make_class()
    page = reverse("classes:join", args=[_link(lab_class)])
    session = client.session
    session[_CLICK] = {"path": page, "until": timezone.now().timestamp() + 60}
    session.save()
    begin(client, anna)
    client.get(page)
    assert not anna.enrolments.exists() and _CLICK not in client.session


def _link(lab_class):
    from classes.services.invites import link_token

    return link_token(make_invite(lab_class))


def _pages_without_arguments() -> list[tuple[str, str]]:
    found = []
    for name in urls(get_resolver()):
        with contextlib.suppress(NoReverseMatch):
            found.append((name, reverse(name)))
    return found


def test_what_belongs_to_the_account_is_not_shown(look):
    """Whatever is added to the portal is not shown either, unless it is about machines or classes."""
    shown = ("machines:", "classes:", "lab_sessions:", "labportal:")
    hidden = [(name, url) for name, url in _pages_without_arguments() if not name.startswith(shown) and name not in (viewing.SIGN_OUT, viewing.STOP)]
    assert len(hidden) > 40 and {"accounts:profile", "accounts:tokens", "mfa_view_recovery_codes", "admin:index"} <= {name for name, _url in hidden}
    for name, url in hidden:
        answer = look.get(url)
        assert answer.status_code == 403 and "This page is not shown" in text(answer), name


def test_consoles_and_what_holds_credentials_are_not_shown(look, anna):
    machine = make_machine("hers", owner=anna, state="running")
    for name in ("console:screen", "console:terminal", "machines:rdp"):
        assert look.get(reverse(name, args=[machine.key])).status_code == 403
    for name in ("console:ticket", "machines:credentials"):
        assert look.post(reverse(name, args=[machine.key]), {"kind": "screen"}).status_code == 403
    assert look.get("/api/v1/me").status_code == 403
    assert look.get("/no/such/page").status_code == 403


@pytest.mark.django_db(transaction=True)
async def test_no_websocket_is_opened(sam, anna):
    from labportal.asgi import application

    client = AsyncClient()
    await client.aforce_login(sam)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode()

    async def opens(path: str) -> bool:
        socket = WebsocketCommunicator(application, path, headers=[(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"cookie", cookie)])
        opened, _code = await socket.connect()
        await socket.disconnect()
        return opened

    assert await opens("/live/")
    assert (await client.post(f"/admin/accounts/user/{anna.pk}/view-as/")).status_code == 302
    assert not await opens("/live/")
    assert not await opens("/console/screen/")
    await database_sync_to_async(connections.close_all)()  # of the threads that held them


def test_it_ends_when_it_is_stopped(look, sam, anna):
    answer = look.post(reverse("accounts:stop_viewing"))
    assert answer.url == reverse("admin:accounts_user_change", args=[anna.pk])
    assert look.get(answer.url).status_code == 200
    began, ended = AuditEntry.objects.filter(action__startswith="user.view_as").order_by("id")
    assert (began.action, began.actor, began.object_name) == ("user.view_as", sam, "Anna Maier (anna)")
    assert (ended.action, ended.actor, ended.object_name, ended.data["why"]) == ("user.view_as_ended", sam, "Anna Maier (anna)", "stopped")


def test_it_ends_by_itself_after_half_an_hour(look, sam):
    session = look.session
    session[viewing.KEY] |= {"began": timezone.now().timestamp() - 30 * 60}
    session.save()
    assert look.get(reverse("admin:index")).status_code == 200
    assert viewing.KEY not in look.session
    assert AuditEntry.objects.get(action="user.view_as_ended").data["why"] == "over"


def test_signing_out_ends_it_and_signs_out_the_member_of_staff(look, sam):
    look.post(reverse("account_logout"))
    assert AuditEntry.objects.get(action="user.view_as_ended").data["why"] == "signed_out"
    assert not get_user(_request_with(look)).is_authenticated


def _request_with(client: Client):
    request = RequestFactory().get("/")
    request.session = client.session
    return request


def test_nothing_of_the_person_is_touched(look, sam, anna):
    before = User.objects.get(pk=anna.pk)
    look.get("/")
    after = User.objects.get(pk=anna.pk)
    assert (before.last_login, before.password) == (after.last_login, after.password)
    assert get_user(_request_with(look)) == sam


@pytest.mark.parametrize("who", ["root", "staff", "oneself", "closed"])
def test_whom_staff_do_not_look_as(client, sam, who):
    user = {
        "root": lambda: make_user("root", role=Role.STAFF, is_superuser=True),
        "staff": lambda: make_user(role=Role.STAFF),
        "oneself": lambda: sam,
        "closed": lambda: make_user(is_active=False),
    }[who]()
    with pytest.raises(PersonRefused):
        service.begin(user, acting_user=sam)
    client.force_login(sam)
    begin(client, user)
    assert viewing.KEY not in client.session and not AuditEntry.objects.filter(action="user.view_as").exists()


def test_a_superuser_looks_as_staff_and_never_as_a_superuser():
    root = make_user("root", role=Role.STAFF, is_superuser=True)
    assert service.refusal(make_user(role=Role.STAFF), acting_user=root) == ""
    assert service.refusal(make_user(role=Role.STAFF, is_superuser=True), acting_user=root)


def test_it_ends_where_staff_may_not_any_more(look, anna):
    User.objects.filter(pk=anna.pk).update(role=Role.STAFF, is_staff=True)
    look.get("/")
    assert viewing.KEY not in look.session
    assert AuditEntry.objects.get(action="user.view_as_ended").data["why"] == "refused"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_nobody_else_begins(client, anna, role):
    client.force_login(make_user(role=role))
    begin(client, anna)
    assert viewing.KEY not in client.session


def test_it_begins_by_a_click_and_not_by_a_link(client, sam, anna):
    client.force_login(sam)
    assert client.get(reverse("admin:accounts_user_view_as", args=[anna.pk])).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(sam)
    assert strict.post(reverse("admin:accounts_user_view_as", args=[anna.pk])).status_code == 403


def test_a_class_of_theirs_is_shown(look, anna):
    lab_class = make_class("Networks")
    enrol(lab_class, anna)
    assert "Networks" in text(look.get(reverse("classes:list")))
