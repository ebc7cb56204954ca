"""The tasks of the simulated hypervisor: work that takes time and of which only so much fits at once."""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from machines.providers.errors import ProviderError
from machines.providers.types import TaskRef, TaskState, TaskStatus

REMEMBERED = 10_000  # ended tasks; older ones are lost, as on a real hypervisor


@dataclass
class Work:
    """`seconds` None: nobody knows how long, it waits for the guest."""

    kind: str
    seconds: float | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float | None = None  # None: waits for a free place
    state: TaskState = TaskState.RUNNING
    error: ProviderError | None = None
    runner: "asyncio.Task[None] | None" = None

    @property
    def ref(self) -> TaskRef:
        return TaskRef(id=self.id, kind=self.kind)

    def status(self) -> TaskStatus:
        if self.state is not TaskState.RUNNING:
            return TaskStatus(self.state, 1.0 if self.state is TaskState.SUCCEEDED else None, self.error)
        if self.seconds is None:
            return TaskStatus(self.state)
        if self.began is None:
            return TaskStatus(self.state, 0.0)
        share = (asyncio.get_running_loop().time() - self.began) / self.seconds if self.seconds else 1.0
        return TaskStatus(self.state, min(share, 0.99))


class Workshop:
    """Runs tasks, `places` of them at once, the others in the order they came."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._known: dict[str, Work] = {}
        self._ended: deque[str] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self.busy = 0
        self.busiest = 0  # most tasks that were at work at once
        self.finished = 0

    def begin(self, work: Work, finish: Callable[[ProviderError | None], None], *, known: bool = True, takes_place: bool = True) -> TaskRef:
        """`finish` is called once at the end, with the error of `end` or None; a ProviderError it
        raises is what the task failed with."""
        if known:
            self._known[work.id] = work
        work.runner = asyncio.get_running_loop().create_task(self._run(work, finish, takes_place))
        self._runners.add(work.runner)
        work.runner.add_done_callback(self._runners.discard)
        return work.ref

    async def _run(self, work: Work, finish: Callable[[ProviderError | None], None], takes_place: bool) -> None:
        async with self._places if takes_place else nullcontext():
            work.began = asyncio.get_running_loop().time()
            if takes_place:
                self.busy += 1
                self.busiest = max(self.busiest, self.busy)
            try:
                await (asyncio.sleep(work.seconds) if work.seconds is not None else asyncio.Event().wait())
            finally:
                if takes_place:
                    self.busy -= 1
        try:
            finish(None)
        except ProviderError as error:
            self._close(work, error)
        else:
            self._close(work, None)

    def end(self, work: Work, error: ProviderError | None) -> None:
        """Break a task off: with an error, or because what it waited for is so."""
        assert work.runner is not None
        work.runner.cancel()
        self._close(work, error)

    def _close(self, work: Work, error: ProviderError | None) -> None:
        work.state, work.error = (TaskState.FAILED, error) if error else (TaskState.SUCCEEDED, None)
        self.finished += 1
        self._ended.append(work.id)
        if len(self._ended) > REMEMBERED:
            self._known.pop(self._ended.popleft(), None)

    def status(self, task_id: str) -> TaskStatus:
        work = self._known.get(task_id)
        return work.status() if work else TaskStatus(TaskState.LOST)

    def forget(self) -> None:
        """Lose every task, as a hypervisor does that was restarted; the work goes on."""
        self._known.clear()

    async def close(self) -> None:
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
