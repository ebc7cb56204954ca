"""Endpoints, and nodes behind them, that failed lately are left alone for a while."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from machines.providers.errors import Unreachable

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
FORGIVEN = 2  # silences in a row that are not yet taken for an endpoint that is down
PROBE_SECONDS = 90.0  # a probe that has not been heard of for so long died with its thread


@dataclass
class _State:
    failures: int = 0
    pauses: int = 0
    closed_until: float = 0.0
    probing_since: float | None = None
    why: Unreachable | None = None


class Breakers:
    """One circuit breaker per endpoint. After its pause one caller may try (`allows`), and says how it went:
    `failed`, `answered`, or `left` where it cannot tell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[Hashable, _State] = {}
        self._lock = threading.Lock()

    def allows(self, endpoint: Hashable) -> bool:
        with self._lock:
            state = self._states.get(endpoint)
            if state is None or not state.pauses:
                return True
            now = self._clock()
            probed = state.probing_since is not None and now - state.probing_since < PROBE_SECONDS
            if now < state.closed_until or probed:
                return False
            state.probing_since = now
            return True

    def failed(self, endpoint: Hashable, why: Unreachable, *, certain: bool) -> None:
        """`certain`: it could not even be connected to, so that one failure is enough."""
        with self._lock:
            state = self._states.setdefault(endpoint, _State())
            state.failures += 1
            state.why, state.probing_since = why, None
            if certain or state.pauses or state.failures > FORGIVEN:
                state.closed_until = self._clock() + min(FIRST_PAUSE_SECONDS * 2**state.pauses, LONGEST_PAUSE_SECONDS)
                state.pauses += 1

    def answered(self, endpoint: Hashable) -> None:
        with self._lock:
            self._states.pop(endpoint, None)

    def left(self, endpoint: Hashable) -> None:
        with self._lock:
            if endpoint in self._states:
                self._states[endpoint].probing_since = None

    def why(self, endpoint: Hashable) -> Unreachable | None:
        """Why it is left alone."""
        with self._lock:
            state = self._states.get(endpoint)
            return state.why if state else None
