"""The live feed: a page hears of what concerns it, of nothing else, and not for longer than it may."""

import asyncio
import json
from datetime import timedelta

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone

from machines import consumers, live
from machines.models import Change
from machines.services.feed import publish
from tests.factories import make_cluster, make_user

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 10

in_database = database_sync_to_async


class Page:
    """A browser's end of the socket."""

    def __init__(self, user, session=None):
        self.scope = {"type": "websocket", "user": user, "session": session or SessionStore()}
        self._to_app, self._from_app = asyncio.Queue(), asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(consumers.live(self.scope, self._to_app.get, self._from_app.put))

    async def answer(self):
        return await asyncio.wait_for(self._from_app.get(), SECONDS)

    async def message(self):
        return json.loads((await self.answer())["text"])

    def say(self, **words):
        self._to_app.put_nowait({"type": "websocket.receive", "text": json.dumps(words)})

    def listen(self, *tokens, since=0):
        self.say(listen=list(tokens), since=since)

    async def leave(self):
        self._to_app.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(self._task, SECONDS)


@pytest.fixture
async def page():
    page = Page(await in_database(make_user)())
    assert (await page.answer())["type"] == "websocket.accept"
    yield page
    await page.leave()
    assert not consumers._tail._listeners and not consumers._tail._by_topic
    assert not consumers.sessions._held and consumers.sessions._task is None


def token(page, *topics):
    return live.sign(page.scope["user"], topics)


async def test_a_page_hears_of_its_topics_and_of_no_others(page):
    page.listen(token(page, "machine:1", "owner:7"))
    await in_database(publish)("machine:2", "machine:1")
    assert await page.message() == {"topics": ["machine:1"]}


async def test_what_happened_between_the_making_of_the_page_and_its_listening_is_told(page):
    await in_database(publish)("machine:1")
    since = await in_database(lambda: Change.objects.latest("id").pk)()
    await in_database(publish)("machine:2")
    await in_database(Change.objects.update)(at=timezone.now() - timedelta(minutes=1))  # else the tail, which looks back a little, tells of both
    page.listen(token(page, "machine:1", "machine:2"), since=since)
    assert await page.message() == {"topics": ["machine:2"]}


async def test_a_page_that_is_slow_gets_one_message_for_all_it_missed(page):
    page.listen(token(page, "machine:1", "machine:2"))
    await in_database(publish)("machine:1")
    assert await page.message() == {"topics": ["machine:1"]}
    (listener,) = consumers._tail._listeners
    for topic in ("machine:1", "machine:2"):
        await in_database(publish)(topic)
        async with asyncio.timeout(SECONDS):
            while topic not in listener._topics:  # the tail has looked in between, and yet
                await asyncio.sleep(0)
    assert page._from_app.empty()
    page.say(ok=1)
    assert await page.message() == {"topics": ["machine:1", "machine:2"]}


async def test_pages_are_told_that_a_cluster_still_answers(page):
    cluster = await in_database(make_cluster)()
    page.listen(token(page, f"cluster:{cluster.pk}"))
    assert await page.message() == {"seen": {f"cluster:{cluster.pk}": cluster.seen_at.isoformat()}}


async def test_the_topics_of_somebody_else_are_not_heard(page):
    other = await in_database(make_user)()
    page.listen(live.sign(other, ["machine:1"]), "machine:1~forged", "machine:1~\ud800", "\ud800~forged", token(page, "machine:2"))
    await in_database(publish)("machine:1", "machine:2")
    assert await page.message() == {"topics": ["machine:2"]}


async def test_nobody_signed_in_hears_nothing():
    page = Page(AnonymousUser())
    assert (await page.answer())["type"] == "websocket.accept"
    assert await page.answer() == {"type": "websocket.close", "code": consumers.SIGNED_OUT}
    await page.leave()


@pytest.mark.parametrize(
    "words",
    ["nonsense", "[]", '{"listen": "machine:1"}', '{"listen": []}', '{"listen": [1], "since": "x"}', "9" * (consumers.LONGEST_MESSAGE + 1), "[" * 50000],
)
async def test_what_is_not_understood_ends_the_socket(page, words):
    page._to_app.put_nowait({"type": "websocket.receive", "text": words})
    assert (await page.answer())["code"] == consumers.NOT_UNDERSTOOD


async def test_the_socket_ends_with_the_session(monkeypatch):
    monkeypatch.setattr(consumers.sessions, "seconds", 0.05)
    user = await in_database(make_user)()
    client = Client()
    await in_database(client.force_login)(user)
    page = Page(user, client.session)
    assert (await page.answer())["type"] == "websocket.accept"
    page.listen(token(page, "machine:1"))
    await in_database(publish)("machine:1")
    assert await page.message() == {"topics": ["machine:1"]}
    await in_database(client.logout)()
    assert await page.answer() == {"type": "websocket.close", "code": consumers.SIGNED_OUT}
    await page.leave()


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_each_change_is_handed_out_once_and_late_commits_are_not_missed(monkeypatch, vendor):
    monkeypatch.setattr(live.connection, "vendor", vendor)
    tail = live.Tail()
    assert tail._look() == set()
    Change.objects.create(id=12, topic="machine:12")
    assert tail._look() == {"machine:12"}
    assert tail._look() == set()
    if vendor == "postgresql":  # its id was given out before that of 12, and committed after it
        Change.objects.create(id=11, topic="machine:11")
        assert tail._look() == {"machine:11"}
    Change.objects.create(id=13, topic="machine:13")
    assert tail._look() == {"machine:13"}


async def test_the_tail_rests_while_nobody_listens(page):
    page.listen(token(page, "machine:1"))
    await in_database(publish)("machine:1")
    await page.message()
    assert consumers._tail._task is not None
    await page.leave()
    assert consumers._tail._task is None
