"""A simulator in a thread of the test's own process."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from machines.providers.simulator import SimulatorControl, SimulatorProvider
from machines.providers.simulator.host import Host, Timing
from machines.providers.simulator.server import Server
from machines.providers.types import ProviderSettings

PORTAL = "7e57ab1e-0000-4000-8000-000000000000"
QUICK = Timing().scaled(0.02)


@dataclass(frozen=True)
class Simulated:
    """`config` is what a Cluster row of kind "simulator" needs; `control` belongs to the test's thread."""

    socket: Path
    control: SimulatorControl
    _providers: list[SimulatorProvider] = field(default_factory=list)

    @property
    def config(self) -> dict[str, str]:
        return {"socket": str(self.socket)}

    def provider(self, portal: str = PORTAL) -> SimulatorProvider:
        """A provider of its own, closed with the simulator."""
        provider = SimulatorProvider(ProviderSettings(cluster="simulated", portal=portal, config=self.config))
        self._providers.append(provider)
        return provider

    def close(self) -> None:
        for provider in self._providers:
            provider.close()
        self.control.close()


@contextmanager
def simulator(*, timing: Timing = QUICK, state: Path | None = None, **host: float) -> Iterator[Simulated]:
    """A simulated cluster that answers; everything takes a fiftieth of its time unless `timing` says otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="simulator-"))  # short: a socket's path has at most 107 characters
    socket = folder / "socket"
    ready = threading.Event()
    failure: list[BaseException] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        await Server(socket, replace(Host(), timing=timing, **host), state).run(stop, ready.set)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # told to the test, which fails of it
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="simulator")
    thread.start()
    try:
        assert ready.wait(10)
        assert not failure, failure
        simulated = Simulated(socket, SimulatorControl(socket))
        try:
            yield simulated
        finally:
            simulated.close()
    finally:
        for loop, stop in stopping:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        shutil.rmtree(folder)
    assert not failure, failure
    assert not thread.is_alive()
