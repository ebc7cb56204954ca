"""The simulator's process: answers the verbs of `protocol` on a Unix socket, from one world."""

import asyncio
import base64
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from machines.providers.errors import Busy, InvalidSpec, ProviderError, StorageFull
from machines.providers.types import MachineIdentity, StopMode, TaskRef

from .control import Control
from .faults import FaultKind
from .host import Host
from .machine import VirtualMachine
from .protocol import LINE_LIMIT, Json, error_to_json, identity_from_json, spec_from_json, status_to_json
from .rfb import Screens
from .ssh import SecureShells
from .store import Store
from .world import World

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds of wait_for_change


class _HangUp(Exception):
    """The connection ends here, without an answer."""


class Server:
    def __init__(self, path: Path, host: Host, state: Path | None = None) -> None:
        self.path = path
        self._store = Store(state) if state else None
        self.world = World(host, self._store)
        self.screens = Screens(self.world)
        self.shells = SecureShells(self.world)
        self._control = Control(self.world, self._hang_up_all)
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._controlling: set[asyncio.StreamWriter] = set()
        self._inventory: dict[str, tuple[int, str]] = {}  # ref → version, encoded line
        self._verbs: dict[str, Callable[[Json], object | Awaitable[object]]] = {
            "inventory": self._encoded_inventory,
            "wait": self._wait,
            "find": lambda call: asdict(self.world.find(_identity(call), call["ref"])),
            "poll": lambda call: [status_to_json(self.world.workshop.status(task)) for task in call["tasks"]],
            "create": lambda call: _task(self.world.create(_identity(call), call["ref"], spec_from_json(call["spec"]))),
            "configure": lambda call: self.world.configure(_identity(call), call["ref"], spec_from_json(call["spec"])),
            "start": lambda call: _task(self.world.start(_identity(call), call["ref"])),
            "stop": lambda call: _task(self.world.stop(_identity(call), call["ref"], StopMode(call["mode"]))),
            "reboot": lambda call: _task(self.world.reboot(_identity(call), call["ref"])),
            "revert": lambda call: _task(self.world.revert(_identity(call), call["ref"], spec_from_json(call["spec"]), call["snapshot"])),
            "destroy": lambda call: _task(self.world.destroy(_identity(call), call["ref"])),
            "snapshots": lambda call: [asdict(each) for each in self.world.snapshots(_identity(call), call["ref"])],
            "snapshot": lambda call: _task(self.world.snapshot(_identity(call), call["ref"], call["name"])),
            "delete_snapshot": lambda call: _task(self.world.delete_snapshot(_identity(call), call["ref"], call["name"])),
            "resize": lambda call: _task(self.world.resize(_identity(call), call["ref"], spec_from_json(call["spec"]))),
            "endpoints": lambda call: [asdict(each) for each in self._machine(call).observed().endpoints],
            "password": lambda call: self.world.set_password(_identity(call), call["ref"], call["username"], call["password"]),
            "screenshot": lambda call: base64.b64encode(self.screens.screenshot(self._running(call))).decode(),
            "metrics": lambda call: [asdict(each) for each in self.world.metrics()],
            "templates": lambda call: [asdict(each) for each in self.world.template_list()],
            "adopt": lambda call: self.world.adopt(_identity(call), call["ref"], call["guest"]),
            "release": lambda call: self.world.release(_identity(call), call["ref"]),
            "console": self._open_console,
            "host": lambda call: self.world.figures(),
        }

    async def run(self, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is set. Raises OSError where the socket cannot be had."""
        _claim(self.path)
        umask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._accept, self.path, limit=LINE_LIMIT, backlog=256)
        finally:
            os.umask(umask)
        try:
            self.world.load()
            logger.info("serving %s with %d machines", self.path, len(self.world.machines))
            ready()
            await stop.wait()
        finally:
            server.close()
            self._hang_up_all()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self.world.close()
            self.shells.close()
            self.screens.close()
            if self._store:
                self._store.close()
            self.path.unlink(missing_ok=True)

    # -- connections -----------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(lambda done: self._connections.pop(done, None))

    def _hang_up_all(self) -> None:
        """Cut every connection but those that control the simulator itself."""
        for connection, writer in self._connections.items():
            if writer not in self._controlling:
                connection.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write((await self._answer(json.loads(line), writer)).encode() + b"\n")
                await writer.drain()
        except (_HangUp, OSError, ValueError, asyncio.CancelledError):
            pass  # whoever speaks another language, or stops in the middle, is hung up on
        finally:
            self._controlling.discard(writer)
            writer.close()

    async def _answer(self, call: Json, writer: asyncio.StreamWriter) -> str:
        verb = call["verb"]
        if verb.startswith("control."):
            self._controlling.add(writer)
            result = self._control.answer(verb.removeprefix("control."), call)
            self.world.save()
            return json.dumps({"result": result})
        faults, names = self.world.faults, (call.get("ref", ""), (call.get("identity") or {}).get("name", ""))
        if faults.unreachable:
            raise _HangUp
        if verb == "hello":
            return json.dumps({"result": "labportal simulator"})
        if slow := faults.take(FaultKind.SLOW, verb, *names):
            await asyncio.sleep(slow.seconds)
        if faults.take(FaultKind.LOST_CALL, verb, *names):
            raise _HangUp
        try:
            if faults.take(FaultKind.BUSY, verb, *names):
                raise Busy(f"{verb}: told to be busy")
            if faults.take(FaultKind.STORAGE_FULL, verb, *names):
                raise StorageFull(f"{verb}: told to be full")
            result = self._verbs[verb](call)
            if isinstance(result, Awaitable):
                result = await result
        except ProviderError as error:
            return json.dumps({"error": error_to_json(error)})
        except (KeyError, TypeError) as error:
            return json.dumps({"error": error_to_json(InvalidSpec(f"{verb}: {error!r}"))})
        self.world.save()
        if faults.take(FaultKind.LOST_ANSWER, verb, *names):
            raise _HangUp
        return result if verb == "inventory" and isinstance(result, str) else json.dumps({"result": result})

    # -- verbs that are more than a line -----------------------------------------------------

    def _machine(self, call: Json) -> VirtualMachine:
        return self.world.ours(_identity(call), call["ref"])

    def _running(self, call: Json) -> VirtualMachine:
        return self.world.running(_identity(call), call["ref"])

    def _encoded_inventory(self, call: Json) -> str:
        """5,000 lines once a second: what did not change is not encoded again."""
        lines = []
        for ref, machine in self.world.machines.items():
            version, line = self._inventory.get(ref, (-1, ""))
            if version != machine.version:
                line = json.dumps(asdict(machine.observed()))
                self._inventory[ref] = machine.version, line
            lines.append(line)
        for ref in self._inventory.keys() - self.world.machines.keys():
            del self._inventory[ref]
        nodes = json.dumps([asdict(node) for node in self.world.nodes()])
        return f'{{"result": {{"revision": {self.world.revision}, "nodes": {nodes}, "machines": [{",".join(lines)}]}}}}'

    async def _wait(self, call: Json) -> Json:
        since = self.world.revision if call["since"] is None else call["since"]
        revision = await self.world.change_after(since, min(call["seconds"], LONGEST_WAIT))
        return {"revision": revision, "changed": revision != since}

    async def _open_console(self, call: Json) -> Json:
        port, password = await self.screens.open(self._running(call))
        return {"port": port, "password": password}


def _identity(call: Json) -> MachineIdentity:
    identity = identity_from_json(call["identity"])
    if identity is None:
        raise KeyError("identity")
    return identity


def _task(task: TaskRef | None) -> Json | None:
    return task.to_json() if task else None


def _claim(path: Path) -> None:
    """Take away the socket of a simulator that died; refuse where one lives."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(f"a simulator serves {path} already")
