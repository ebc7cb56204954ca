"""Whether those who hold a WebSocket open are still signed in.

A socket outlives the request that let it in. Each process therefore looks again and again at its
sockets, at many of them with a few queries, since one look per socket would cost more than what
the sockets carry.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from channels.db import database_sync_to_async
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import User
from accounts.policies import owing_second_factor

logger = logging.getLogger(__name__)

AT_ONCE = 100  # sockets of one look: it holds the interpreter for some milliseconds, and keys wait

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Visit:
    """By what a socket was let in. `user_hash` changes with the password, as it does for requests."""

    session_key: str
    user_id: int
    user_hash: str


def visit(scope: Mapping[str, Any]) -> Visit:
    """That of a socket whose user is signed in."""
    return Visit(scope["session"].session_key, scope["user"].pk, scope["user"].get_session_auth_hash())


def over(visits: Collection[Visit]) -> set[Visit]:
    """Those whose session has ended, or whose user was switched off, has another password now, or must first set up a second factor."""
    sessions = Session.objects.filter(session_key__in={visit.session_key for visit in visits}, expire_date__gt=timezone.now())
    living = set(sessions.values_list("session_key", flat=True))
    people = User.objects.filter(pk__in={visit.user_id for visit in visits}, is_active=True).only("password")
    hashes = {user.pk: user.get_session_auth_hash() for user in people}
    owing = set(owing_second_factor().filter(pk__in=hashes).values_list("pk", flat=True))
    return {visit for visit in visits if visit.session_key not in living or hashes.get(visit.user_id) != visit.user_hash or visit.user_id in owing}


class Rounds(Generic[Key]):
    """Looks at every socket of this process once in `seconds`.

    `look` gets some of them (key → visit) in a database thread and answers why which of them must
    end. A database that does not answer ends nothing: what was allowed stays so until the contrary
    is known.
    """

    def __init__(self, look: Callable[[dict[Key, Visit]], Mapping[Key, str]], seconds: float) -> None:
        self.look, self.seconds = look, seconds
        self._held: dict[Key, tuple[Visit, Callable[[str], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def join(self, key: Key, visit: Visit, end: Callable[[str], None]) -> None:
        """`end` is called in the event loop, with the reason."""
        self._held[key] = visit, end
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def leave(self, key: Key) -> None:
        self._held.pop(key, None)
        if not self._held and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        waiting: list[Key] = []
        pause = self.seconds
        while True:
            await asyncio.sleep(pause)
            if not waiting:
                waiting = list(self._held)
                pause = self.seconds / max(1, -(-len(waiting) // AT_ONCE))
            part, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            try:
                due = await database_sync_to_async(self.look)({key: self._held[key][0] for key in part if key in self._held})
            except Exception:
                logger.exception("Open sockets could not be looked at.")
                continue
            for key, reason in due.items():
                if key in self._held:
                    self._held[key][1](reason)
