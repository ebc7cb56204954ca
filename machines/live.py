"""Live pages: what a page may listen to, and the one reader of the change feed per process.

A page carries its topics signed for the person who got it, and the id of the newest change that
is certainly in what it shows. `Tail` looks at the feed only while somebody listens, and tells
each listener what is new in one message at a time.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from channels.db import database_sync_to_async
from django.core.signing import BadSignature, Signer
from django.db import DatabaseError, connection
from django.utils import timezone

from accounts.models import User
from machines.models import Change, Cluster

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
# How often pages are told that a cluster still answers, though nothing changed.
SEEN_SECONDS = 5.0
# PostgreSQL gives out ids before it commits: a smaller one may appear this long after a larger one.
SETTLE_SECONDS = 5.0

# One thread reads for all: it keeps out of the way of requests and of consoles that are opened.
_READER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="change-feed")


def _signer(user: User) -> Signer:
    return Signer(salt=f"live:{user.pk}", sep="~")


def sign(user: User, topics: Iterable[str]) -> str:
    """The topics as a page carries them: readable, and good only for this person."""
    return _signer(user).sign(" ".join(topics))


def unsign(user: User, token: str) -> list[str]:
    """The topics of a token, or none where it was not made for this person."""
    try:
        return _signer(user).unsign(token).split()
    except (BadSignature, UnicodeEncodeError):  # half a character cannot be signed
        return []


def settled() -> int:
    """The id of a change so old that no smaller one can appear any more; a page that is being
    made shows everything up to it."""
    before = timezone.now() - timedelta(seconds=SETTLE_SECONDS)
    return Change.objects.filter(at__lt=before).order_by("-id").values_list("id", flat=True).first() or 0


def changed_since(since: int, topics: Iterable[str]) -> set[str]:
    return set(Change.objects.filter(id__gt=since, topic__in=list(topics)).values_list("topic", flat=True))


class Listener:
    """One open page: the topics it listens to and what it has not been told yet."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.news = asyncio.Event()
        self._topics: set[str] = set()
        self._seen: dict[str, str] = {}

    def tell(self, topics: Iterable[str] = (), seen: dict[str, str] | None = None) -> None:
        """Add to what the next message says; a page that is slow gets one message for many."""
        self._topics.update(topics)
        self._seen.update(seen or {})
        if self._topics or self._seen:
            self.news.set()

    def take(self) -> dict[str, object]:
        message = {"topics": sorted(self._topics), "seen": dict(self._seen)}
        self._topics.clear()
        self._seen.clear()
        self.news.clear()
        return {name: value for name, value in message.items() if value}


class Tail:
    """Looks for new changes while there are listeners and hands them out. One per process."""

    def __init__(self) -> None:
        self._by_topic: dict[str, set[Listener]] = {}
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._floor: int | None = None  # everything up to here was handed out
        self._told: dict[int, float] = {}  # above it, when: told already

    def add(self, listener: Listener, topics: Iterable[str]) -> None:
        for topic in topics:
            listener.topics.add(topic)
            self._by_topic.setdefault(topic, set()).add(listener)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._floor, self._told = None, {}
            self._task = asyncio.create_task(self._run())

    def remove(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        for topic in listener.topics:
            others = self._by_topic.get(topic, set())
            others.discard(listener)
            if not others:
                self._by_topic.pop(topic, None)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        seen_at = 0.0
        while True:
            try:
                self._hand_out(await database_sync_to_async(self._look, thread_sensitive=False, executor=_READER)())
                if time.monotonic() - seen_at >= SEEN_SECONDS:
                    seen_at = time.monotonic()
                    self._hand_out_seen(await database_sync_to_async(_seen, thread_sensitive=False, executor=_READER)())
            except DatabaseError:
                logger.exception("The change feed could not be read.")
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> set[str]:
        """The topics of changes not handed out yet. Runs in the reader's thread."""
        now = time.monotonic()
        if self._floor is None:
            self._floor = settled()
        new = set()
        for number, topic in Change.objects.filter(id__gt=self._floor).order_by("id").values_list("id", "topic"):
            if number not in self._told:
                self._told[number] = now
                new.add(topic)
        settle = 0.0 if connection.vendor == "sqlite" else SETTLE_SECONDS
        self._floor = max([self._floor, *(number for number, when in self._told.items() if now - when >= settle)])
        self._told = {number: when for number, when in self._told.items() if number > self._floor}
        return new

    def _hand_out(self, topics: set[str]) -> None:
        for topic in topics:
            for listener in self._by_topic.get(topic, ()):
                listener.tell([topic])

    def _hand_out_seen(self, moments: dict[str, str]) -> None:
        for topic, moment in moments.items():
            for listener in self._by_topic.get(topic, ()):
                listener.tell(seen={topic: moment})


def _seen() -> dict[str, str]:
    clusters = Cluster.objects.filter(reachable=True, seen_at__isnull=False).values_list("pk", "seen_at")
    return {f"cluster:{pk}": moment.isoformat() for pk, moment in clusters if moment is not None}
