"""The language between `SimulatorProvider` and the simulator's process: one JSON object a line.

    → {"verb": "start", "identity": {…}, "ref": "…"}
    ← {"result": …}   or   {"error": {"code": "busy", "message": "…", "detail": "…"}}

A connection begins with `hello`: a caller who gets no answer to that knows that nothing was done.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from machines.providers import errors
from machines.providers.types import Endpoint, Inventory, MachineIdentity, MachineSpec, NodeInfo, ObservedMachine, Power, Seed, Stage, TaskState, TaskStatus

LINE_LIMIT = 4 * 1024 * 1024  # bytes; a poll of 5,000 tasks is a tenth of it
OUTCOME_MATTERS = frozenset({"create", "configure", "start", "stop", "reboot", "revert", "destroy", "snapshot", "delete_snapshot", "resize", "password"})

Json = dict[str, Any]

_ERRORS: dict[str, type[errors.ProviderError]] = {
    error.code: error
    for error in (
        errors.Unreachable,
        errors.Busy,
        errors.NoCapacity,
        errors.Overloaded,
        errors.OutcomeUnknown,
        errors.InvalidSpec,
        errors.TemplateMissing,
        errors.StorageFull,
        errors.AuthFailed,
        errors.ForeignMachine,
        errors.TaskFailed,
        errors.Unsupported,
        errors.NotRunning,
    )
}


def error_to_json(error: errors.ProviderError) -> Json:
    return {"code": error.code, "message": error.message, "detail": error.detail}


def error_from_json(data: Mapping[str, str]) -> errors.ProviderError:
    return _ERRORS.get(data["code"], errors.TaskFailed)(data["detail"], message=data["message"])


def spec_to_json(spec: MachineSpec) -> Json:
    return asdict(spec)


def spec_from_json(data: Mapping[str, Any]) -> MachineSpec:
    return MachineSpec(**{**data, "seed": seed_from_json(data["seed"])})


def seed_from_json(data: Mapping[str, Any] | None) -> Seed | None:
    return Seed(**{**data, "ssh_keys": tuple(data["ssh_keys"])}) if data else None


def identity_from_json(data: Mapping[str, str] | None) -> MachineIdentity | None:
    return MachineIdentity(**data) if data else None


def status_to_json(status: TaskStatus) -> Json:
    return {"state": status.state, "progress": status.progress, "error": error_to_json(status.error) if status.error else None}


def status_from_json(data: Mapping[str, Any]) -> TaskStatus:
    return TaskStatus(state=TaskState(data["state"]), progress=data["progress"], error=error_from_json(data["error"]) if data["error"] else None)


def inventory_from_json(data: Mapping[str, Any]) -> Inventory:
    machines = tuple(
        ObservedMachine(
            ref=line["ref"],
            name=line["name"],
            power=Power(line["power"]),
            stage=Stage(line["stage"]),
            identity=identity_from_json(line["identity"]),
            node=line["node"],
            endpoints=tuple(Endpoint(**endpoint) for endpoint in line["endpoints"]),
        )
        for line in data["machines"]
    )
    return Inventory(machines=machines, nodes=tuple(NodeInfo(**node) for node in data["nodes"]))
