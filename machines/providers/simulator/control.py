"""What only tests and demonstrations ask of a simulator: make things go wrong, act behind the portal's back.

`Control` answers inside the simulator's process, `SimulatorControl` is its client.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machines.providers.types import MachineIdentity

from .connection import Connection
from .faults import Fault, FaultKind
from .machine import TEMPLATES, VirtualMachine
from .protocol import Json, identity_from_json
from .world import World


class Control:
    def __init__(self, world: World, hang_up_all: Callable[[], None]) -> None:
        self.world, self._hang_up_all = world, hang_up_all

    def answer(self, verb: str, call: Json) -> object:
        """Raises KeyError for unknown verbs and machines."""
        match verb:
            case "hello":
                pass
            case "fault":
                self.world.faults.add(Fault(**{**call["fault"], "kind": FaultKind(call["fault"]["kind"])}))
                if self.world.faults.unreachable:
                    self._hang_up_all()
            case "mend":
                self.world.faults.clear()
                self.world.templates.update({template.ref: template for template in TEMPLATES})
            case "plant":
                self.world.plant(call["ref"], call["name"], identity_from_json(call["label"]))
            case "delete":
                self.world.remove(self.world.machines[call["ref"]])
            case "power":
                (self.world.switch_on if call["on"] else self.world.switch_off)(self.world.machines[call["ref"]])
            case "button":
                self._machine(call).obeys_button = call["obeyed"]
            case "template":
                self.world.templates.pop(call["ref"], None)
            case "forget":
                self.world.workshop.forget()
            case "machines":
                return [self._describe(machine) for machine in self.world.machines.values()]
            case "figures":
                return self.world.figures()
            case _:
                raise KeyError(verb)
        return None

    def _machine(self, call: Json) -> VirtualMachine:
        machine = self.world.machines[call["ref"]]
        self.world.changed(machine)
        return machine

    def _describe(self, machine: VirtualMachine) -> Json:
        return {**asdict(machine.observed()), "template": machine.template, "booted": self.world.booted(machine), "snapshots": list(machine.snapshots)}


class SimulatorControl:
    """Client of `Control`. Machines are named by their ref."""

    def __init__(self, socket: str | Path) -> None:
        self._connection = Connection(str(socket), timeout=10, hello="control.hello")

    def _ask(self, verb: str, **arguments: Any) -> Any:
        return self._connection.ask(f"control.{verb}", **arguments)

    def fault(self, kind: FaultKind, **details: object) -> None:
        """Let something go wrong; `details` are the other fields of `Fault`."""
        self._ask("fault", fault=asdict(Fault(kind, **details)))  # type: ignore[arg-type]

    def mend(self) -> None:
        """No fault is left, every template is there again."""
        self._ask("mend")

    def plant(self, ref: str, name: str = "somebody-else", label: MachineIdentity | None = None) -> None:
        """A machine of others at `ref`, with another portal's label or with none."""
        self._ask("plant", ref=ref, name=name, label=asdict(label) if label else None)

    def delete(self, ref: str) -> None:
        self._ask("delete", ref=ref)

    def power_on(self, ref: str) -> None:
        self._ask("power", ref=ref, on=True)

    def power_off(self, ref: str) -> None:
        self._ask("power", ref=ref, on=False)

    def ignore_power_button(self, ref: str, ignored: bool = True) -> None:
        self._ask("button", ref=ref, obeyed=not ignored)

    def remove_template(self, ref: str) -> None:
        self._ask("template", ref=ref)

    def forget_tasks(self) -> None:
        """As a hypervisor that was restarted: work goes on, nobody knows its number."""
        self._ask("forget")

    def machines(self) -> list[dict[str, Any]]:
        """Everything that is there: ref, name, power, stage, node, identity, template, booted, snapshots."""
        machines: list[dict[str, Any]] = self._ask("machines")
        return machines

    def figures(self) -> dict[str, float]:
        """machines, running, busy, busiest (most tasks at work at once), finished (tasks), storage_gib."""
        figures: dict[str, float] = self._ask("figures")
        return figures

    def close(self) -> None:
        self._connection.close()
