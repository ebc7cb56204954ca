"""How many operations a worker takes at once: many where each is quick, one where each takes its time."""

import pytest

from machines.services import executor


@pytest.mark.parametrize(("seconds", "taken"), [(0.001, [1, 2, 4, 8, 8]), (1.0, [1, 1, 1, 1, 1])])
def test_places_are_not_held_from_other_workers(monkeypatch: pytest.MonkeyPatch, seconds: float, taken: list[int]) -> None:
    clock, asked = [0.0], []

    def claim(most: int) -> list[object]:
        asked.append(most)
        return [object()] * most if len(asked) <= len(taken) else []

    def run_batch(operations: list[object]) -> int:
        clock[0] += seconds * len(operations)
        return len(operations)

    monkeypatch.setattr(executor.leases, "claim", claim)
    monkeypatch.setattr(executor, "run_batch", run_batch)
    monkeypatch.setattr(executor.time, "monotonic", lambda: clock[0])
    assert executor.drain() == sum(taken)
    assert asked[: len(taken)] == taken
