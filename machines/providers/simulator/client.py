"""The provider for a simulated cluster. `Cluster.config`: {"socket": path of the simulator's socket}."""

import base64
from collections.abc import Sequence
from typing import Any, ClassVar

from machines.providers.base import Provider
from machines.providers.errors import InvalidSpec, ProviderError, Unsupported
from machines.providers.types import (
    Capabilities,
    Check,
    ConsoleKind,
    ConsoleTarget,
    Endpoint,
    Inventory,
    MachineIdentity,
    MachineSpec,
    Metrics,
    Power,
    Presence,
    ProviderSettings,
    Sighting,
    SnapshotInfo,
    Stage,
    StopMode,
    TaskRef,
    TaskStatus,
    TemplateInfo,
)

from .connection import Connection
from .protocol import inventory_from_json, spec_to_json, status_from_json

TIMEOUT_SECONDS = 10.0


class SimulatorProvider(Provider):
    kind = "simulator"
    capabilities: ClassVar[Capabilities] = Capabilities(
        snapshots=True,
        resize=True,
        endpoints=True,
        guest_password=True,
        screenshot=True,
        metrics=True,
        templates=True,
        screen=True,
        full_clone=True,
        events=True,
        adoption=True,
        simulated=True,
    )

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        if not settings.config.get("socket"):
            raise InvalidSpec("config has no socket", message="The cluster's settings do not name the simulator's socket.")
        self._connection = Connection(str(settings.config["socket"]), timeout=TIMEOUT_SECONDS)
        self._revision: int | None = None  # of the world, as last seen

    def close(self) -> None:
        self._connection.close()

    # -- looking ---------------------------------------------------------------------------

    def check(self) -> list[Check]:
        try:
            host = self._connection.ask("host")
        except ProviderError as error:
            return [Check("simulator answers", False, str(error))]
        return [
            Check("simulator answers", True, str(self.settings.config["socket"])),
            Check(
                "storage has room", host["storage_gib"] < host["storage_total_gib"], f"{host['storage_gib']:.0f} of {host['storage_total_gib']:.0f} GiB used"
            ),
        ]

    def inventory(self) -> Inventory:
        data = self._connection.ask("inventory")
        self._revision = data["revision"]
        return inventory_from_json(data)

    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        seen = self._ask("find", identity, ref)
        stage = Stage(seen["stage"]) if seen["stage"] else None
        return Sighting(Presence(seen["presence"]), stage, Power(seen["power"]), seen["node"], seen["detail"])

    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        if not tasks:
            return {}
        statuses = self._connection.ask("poll", tasks=[task.id for task in tasks])
        return {task: status_from_json(status) for task, status in zip(tasks, statuses, strict=True)}

    def wait_for_change(self, seconds: float) -> bool:
        answer = self._connection.ask("wait", longer=seconds, since=self._revision, seconds=seconds)
        self._revision = answer["revision"]
        return bool(answer["changed"])

    # -- the verbs -------------------------------------------------------------------------

    def begin_create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        return self._begin("create", identity, ref, spec=spec_to_json(spec))

    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        self._ask("configure", identity, ref, spec=spec_to_json(spec))
        return None

    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        return self._begin("start", identity, ref)

    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        return self._begin("stop", identity, ref, mode=mode)

    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        return self._begin("reboot", identity, ref)

    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        return self._begin("revert", identity, ref, spec=spec_to_json(spec), snapshot=snapshot)

    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        return self._begin("destroy", identity, ref)

    # -- extras ----------------------------------------------------------------------------

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        return [SnapshotInfo(**each) for each in self._ask("snapshots", identity, ref)]

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        return self._begin("snapshot", identity, ref, name=name)

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        return self._begin("delete_snapshot", identity, ref, name=name)

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        return self._begin("resize", identity, ref, spec=spec_to_json(spec))

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(**each) for each in self._ask("endpoints", identity, ref))

    def set_guest_password(self, identity: MachineIdentity, ref: str, username: str, password: str) -> None:
        self._ask("password", identity, ref, username=username, password=password)

    def screenshot(self, identity: MachineIdentity, ref: str) -> bytes:
        return base64.b64decode(self._ask("screenshot", identity, ref))

    def metrics(self) -> list[Metrics]:
        return [Metrics(**each) for each in self._connection.ask("metrics")]

    def templates(self) -> list[TemplateInfo]:
        return [TemplateInfo(**each) for each in self._connection.ask("templates")]

    def adopt(self, identity: MachineIdentity, ref: str, guest: str) -> TaskRef | None:
        self._ask("adopt", identity, ref, guest=guest)
        return None

    def release(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        self._ask("release", identity, ref)
        return None

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        if kind is not ConsoleKind.SCREEN:
            raise Unsupported("a simulated machine has no serial line")
        door = self._ask("console", identity, ref)
        return ConsoleTarget(kind, host="127.0.0.1", port=door["port"], password=door["password"])

    def _ask(self, verb: str, identity: MachineIdentity, ref: str, **arguments: Any) -> Any:
        label = {"key": identity.key, "name": identity.name, "portal": identity.portal}
        return self._connection.ask(verb, identity=label, ref=ref, **arguments)

    def _begin(self, verb: str, identity: MachineIdentity, ref: str, **arguments: Any) -> TaskRef | None:
        task = self._ask(verb, identity, ref, **arguments)
        return TaskRef.from_json(task) if task else None
