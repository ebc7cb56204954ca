"""What is recorded says from where it was asked, without being passed it."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.test import AsyncClient, RequestFactory
from django.urls import reverse

from accounts.middleware import Origin, socket_origin
from accounts.models import ApiToken, AuditEntry
from accounts.services import audit
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db


def recorded():
    return AuditEntry.objects.first()


def test_outside_a_request_nothing_is_known_of_it():
    audit.record("test", acting_user=None)
    assert recorded().address is None
    assert recorded().data == {}


def test_within_one_the_address_is_recorded_and_afterwards_no_more():
    with audit.origin(address="192.0.2.7"):
        audit.record("test", acting_user=None)
    assert recorded().address == "192.0.2.7"
    audit.record("test", acting_user=None)
    assert recorded().address is None


def test_the_token_is_named_and_its_secret_is_not_there():
    ada = make_user("ada")
    token = ApiToken.objects.create(user=ada, name="night job", digest="d" * 64)
    with audit.origin(address="192.0.2.7"):
        audit.add_to_origin(token=token)
        audit.record("test", acting_user=ada, count=3)
    assert recorded().data == {"count": 3, "token": str(token.key), "token_name": "night job"}
    with audit.origin(address="192.0.2.8"):  # the next request of this thread
        audit.record("test", acting_user=ada)
    assert recorded().data == {}


def test_whoever_looks_as_somebody_else_is_named():
    staff, ada = make_user("eve", role="staff"), make_user("ada")

    def answer(request):
        request.viewed_by = staff  # by a middleware further in
        middleware.process_view(request, None, (), {})
        return audit.record("test", acting_user=ada)

    middleware = Origin(answer)
    middleware(RequestFactory().get("/"))
    assert recorded().actor == ada
    assert recorded().data == {"viewed_by": "eve"}


def test_a_view_knows_the_address(client):
    make_user("ada")
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, REMOTE_ADDR="192.0.2.7")
    assert recorded().address == "192.0.2.7"


def test_what_a_browser_says_of_its_address_is_not_believed(client, settings):
    make_user("ada")
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, headers={"x-forwarded-for": "203.0.113.1"})
    assert recorded().address == "127.0.0.1"


def test_behind_a_proxy_it_is_what_the_proxy_says(client, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    make_user("ada")
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, headers={"x-forwarded-for": "203.0.113.1, 192.0.2.7"})
    assert recorded().address == "192.0.2.7"


def test_an_address_that_is_none_does_not_keep_the_portal_from_answering(client, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    assert client.get(reverse("account_signup"), headers={"x-forwarded-for": "<script>"}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_view_in_its_thread_under_asgi_knows_the_address(settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    make_user("ada")
    post = async_to_sync(AsyncClient().post)
    answer = post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, headers={"x-forwarded-for": "192.0.2.7"})
    assert answer.status_code == 302
    assert recorded().address == "192.0.2.7"


@pytest.mark.django_db(transaction=True)
def test_many_sockets_at_once_keep_their_addresses_apart():
    async def application(scope, receive, send):
        await asyncio.sleep(0)
        await database_sync_to_async(audit.record)(scope["client"][0], acting_user=None)

    async def all_of_them():
        scopes = [{"type": "websocket", "path": "/", "headers": [], "client": [f"192.0.2.{n}", 1]} for n in range(20)]
        await asyncio.gather(*(socket_origin(application)(scope, None, None) for scope in scopes))

    async_to_sync(all_of_them)()
    assert [entry.address for entry in AuditEntry.objects.all()] == [entry.action for entry in AuditEntry.objects.all()]
    assert AuditEntry.objects.count() == 20


def test_a_socket_behind_a_proxy(settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    seen = []

    async def application(scope, receive, send):
        seen.append(audit._origin.get().address)

    scope = {"type": "websocket", "path": "/", "headers": [(b"x-forwarded-for", b"192.0.2.7")], "client": ["127.0.0.1", 1]}
    async_to_sync(socket_origin(application))(scope, None, None)
    assert seen == ["192.0.2.7"]


def test_a_thread_that_is_not_of_a_request_knows_nothing_of_it():
    seen = []
    with audit.origin(address="192.0.2.7"):
        thread = threading.Thread(target=lambda: seen.append(audit._origin.get().address))
        thread.start()
        thread.join()
    assert seen == [None]
