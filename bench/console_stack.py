"""The product's settings with one more kind of cluster, whose screens are all one VNC server that is given.

Needs BENCH_VNC_PORT and the environment of an installation.
"""

import os

from labportal.settings import *
from machines.providers import registry
from machines.providers.base import Provider
from machines.providers.types import Check, ConsoleKind, ConsoleTarget, Inventory, MachineIdentity

ASGI_APPLICATION = "bench.console_asgi.application"
KIND = "rig"
registry.KINDS[KIND] = "bench.console_stack:Screens"


class Screens(Provider):
    """Opens screens, and can do nothing else."""

    kind = KIND

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        return ConsoleTarget(kind=kind, host="127.0.0.1", port=int(os.environ["BENCH_VNC_PORT"]))

    def check(self) -> list[Check]:
        return []

    def inventory(self) -> Inventory:
        return Inventory(machines=())

    def _cannot(self, *_: object) -> None:
        raise NotImplementedError

    find = poll = begin_create = ensure_configured = begin_start = begin_stop = begin_reboot = begin_revert = begin_destroy = _cannot  # type: ignore[assignment]
