"""How large and how quick a simulated cluster is."""

from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Timing:
    """How long things take, in seconds."""

    create: float = 1.0
    full_clone: float = 8.0
    start: float = 3.0
    boot: float = 4.0  # from power-on until the guest answers
    stop: float = 2.0  # from the power button until the guest is off
    reboot: float = 0.5
    revert: float = 1.0
    snapshot: float = 0.5
    resize: float = 0.3
    destroy: float = 0.5

    def scaled(self, factor: float) -> "Timing":
        return Timing(**{each.name: getattr(self, each.name) * factor for each in fields(self)})


@dataclass(frozen=True)
class Host:
    """How large the simulated cluster is. `parallel`: tasks at work at once, the others queue.
    `clones`: so many at once get the storage's lock in time, one more does not; 0: any number."""

    nodes: int = 4
    node_cores: int = 64
    node_memory_mib: int = 1024 * 1024
    storage_gib: float = 20_000
    parallel: int = 8
    clones: int = 0
    timing: Timing = field(default_factory=Timing)
