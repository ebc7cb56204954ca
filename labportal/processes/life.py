"""How the supervisor sees that a process is well."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from django.db import DatabaseError, connection

from machines.selectors.heartbeats import heartbeat_ages


def heartbeat_silence(name: str) -> Callable[[], float | None]:
    """Seconds since the heartbeat of this name, without end where there never was one; None where the database does not answer."""

    def silence() -> float | None:
        try:
            return heartbeat_ages().get(name, float("inf"))
        except DatabaseError:
            return None
        finally:
            connection.close()

    return silence


class Answers:
    """Whether a URL is answered. `silence` counts from the last answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._last = time.monotonic()

    def __call__(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2):  # noqa: S310 - our own loopback address
                pass
        except urllib.error.HTTPError:
            pass  # an error page is an answer too
        except OSError:
            return False
        self._last = time.monotonic()
        return True

    def silence(self) -> float:
        return 0.0 if self() else time.monotonic() - self._last
