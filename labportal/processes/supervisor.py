"""Watching over the portal's processes: what ends or hangs is started again."""

import time
from collections.abc import Callable

from .child import Child

ROUND = 0.2  # seconds between two looks
LIFE_EVERY = 5.0  # seconds between two questions for a sign of life


def _see(child: Child) -> str:
    return f" Its log: {child.log}" if child.log else ""


class Supervisor:
    """Used by one thread. `say` gets a line whenever something happened that people should know."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Child] = []
        self._asked_for_life = 0.0
        self._hurry = False

    def start(self, child: Child) -> None:
        self._children.append(child)
        child.start()

    def watch(self, seconds: float = float("inf"), until: Callable[[], bool] = lambda: False) -> bool:
        """Keep everything running for `seconds` or until a condition holds; True where it does."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                return False
            self._look()
            time.sleep(ROUND)
        return True

    def _look(self) -> None:
        now = time.monotonic()
        ask = now - self._asked_for_life > LIFE_EVERY
        if ask:
            self._asked_for_life = now
        for child in self._children:
            if child.process is None:
                if now >= child.due:
                    child.start()
            elif not child.running:
                how = child.ended()
                self._say(f"{child.name} {how}; it is started again.{_see(child)}")
            elif ask:
                child.bound_log()
                if silent := child.stuck():
                    self._say(f"{child.name} has shown no sign of life for {silent:.0f} s; it is killed and started again.{_see(child)}")
                    child.kill()

    def hurry(self) -> None:
        """Make a `stop` that is under way kill at once. May be called by a signal handler."""
        self._hurry = True

    def stop(self, *names: str) -> None:
        """End the processes of these names (none named: all) together: SIGTERM, then SIGKILL to the
        group of whatever outlives its grace. Returns when they are gone."""
        stopping = [child for child in self._children if not names or child.name in names]
        self._children = [child for child in self._children if child not in stopping]
        began = time.monotonic()
        for child in stopping:
            child.ask_to_stop()
        while not self._hurry and any(child.running and time.monotonic() - began < child.grace for child in stopping):
            time.sleep(0.05)
        for child in stopping:
            child.kill()
