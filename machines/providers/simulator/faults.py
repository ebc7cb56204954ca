"""What may be made to go wrong, and for whom."""

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    UNREACHABLE = "unreachable"  # nobody answers, whatever is asked
    SLOW = "slow"  # the answer takes `seconds` longer
    LOST_ANSWER = "lost_answer"  # it is done, and the connection breaks before the answer
    LOST_CALL = "lost_call"  # the connection breaks before anything is done
    BUSY = "busy"
    STORAGE_FULL = "storage_full"
    TASK_FAILS = "task_fails"  # the task ends badly with `reason`; nothing is left of what it made
    HALF_BUILT = "half_built"  # as before, but a broken machine stays behind
    TASK_LOST = "task_lost"  # the work is done, but nobody knows the task that was answered


@dataclass
class Fault:
    """Strikes matching calls: `verb` and `machine` (ref or name) empty match all. The first `skip`
    matches are spared, the next `times` are struck (0: all from then on, until cleared)."""

    kind: FaultKind
    verb: str = ""
    machine: str = ""
    skip: int = 0
    times: int = 1
    reason: str = ""
    seconds: float = 0.0


class Faults:
    def __init__(self) -> None:
        self._active: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._active.append(fault)

    def clear(self) -> None:
        self._active.clear()

    def take(self, kind: FaultKind, verb: str, *machine: str) -> Fault | None:
        """The fault that strikes this call, if any; it is used up by that."""
        for fault in self._active:
            if fault.kind is not kind or fault.verb not in ("", verb) or (fault.machine and fault.machine not in machine):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times == 1:
                self._active.remove(fault)
            elif fault.times:
                fault.times -= 1
            return fault
        return None

    @property
    def unreachable(self) -> bool:
        """Whether the whole host is out of reach until cleared."""
        return any(fault.kind is FaultKind.UNREACHABLE for fault in self._active)
