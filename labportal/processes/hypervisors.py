"""The two hypervisors `bin/up` can bring along: real machines through a libvirt daemon of its own, or simulated ones."""

import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machines.models import Cluster
from machines.models.cluster import Audience, ClusterKind
from machines.services.catalog import sync_templates

from .child import MARK, Child
from .progress import Step


class Hypervisor(ABC):
    """A cluster on this computer whose server runs as one of the supervised processes."""

    kind: ClusterKind
    cluster_name: str
    image_step: str  # what `prepare` does, as people read it
    server_step: str

    def __init__(self, data: Path) -> None:
        self.data = data

    @abstractmethod
    def prepare(self, step: Step) -> None:
        """Make what the server needs before it starts."""

    @abstractmethod
    def child(self) -> Child:
        """The server, not started yet."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes connections."""

    @abstractmethod
    def cluster(self) -> Cluster:
        """The row of this cluster, as it has to be, with its templates. The server answers. Raises StepFailed."""

    @abstractmethod
    def stop_machines(self, hurry: Callable[[], bool]) -> None:
        """Switch every machine off: by the power button, then by force; by force at once when `hurry` says so."""

    def clear(self) -> None:  # noqa: B027 - having nothing to clear away is fine
        """After the server has ended: kill what may be left of the machines, remove what is outside the data folder."""


def environment(data: Path) -> dict[str, str]:
    """Of every process the supervisor starts: ours, and the mark by which left-behind ones are found."""
    return os.environ | {MARK: str(data), "PYTHONUNBUFFERED": "1"}


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def put_cluster(name: str, kind: ClusterKind, config: dict[str, Any], **at_first: Any) -> Cluster:
    """The row by this name; `at_first` holds what staff may change afterwards."""
    cluster, made = Cluster.objects.get_or_create(name=name, defaults={"kind": kind, "config": config, **at_first})
    if not made and (cluster.kind, cluster.config) != (kind, config):
        cluster.kind, cluster.config = kind, config
        cluster.save(update_fields=["kind", "config"])
    return cluster


class Simulator(Hypervisor):
    kind = ClusterKind.SIMULATOR
    cluster_name = "simulator"
    image_step = "Simulated hypervisor"
    server_step = "Simulator"

    @property
    def socket(self) -> Path:
        return self.data / "run" / "simulator.sock"

    def prepare(self, step: Step) -> None:
        self.socket.parent.mkdir(exist_ok=True)

    def child(self) -> Child:
        state = self.data / "simulator.sqlite3"
        argv = [sys.executable, "-m", "machines.providers.simulator", "--socket", str(self.socket), "--state", str(state)]
        return Child("simulator", argv, self.data / "log" / "simulator.log", environment(self.data), grace=5)

    def answers(self) -> bool:
        return connects(self.socket)

    def cluster(self) -> Cluster:
        cluster = put_cluster(self.cluster_name, self.kind, {"socket": str(self.socket)})
        sync_templates(cluster, audience=Audience.EVERYBODY)
        return cluster

    def stop_machines(self, hurry: Callable[[], bool]) -> None:
        """They live in the server and end with it."""


def hypervisor(kind: str, data: Path) -> Hypervisor:
    if kind == ClusterKind.SIMULATOR:
        return Simulator(data)
    from .private_libvirt import PrivateLibvirt  # needs libvirt's module, which simulated machines do without

    return PrivateLibvirt(data)
