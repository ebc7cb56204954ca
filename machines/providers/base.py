"""The interface every hypervisor is driven through. `docs/adr/0001-provider-interface.md` says why.

Rules for whoever writes one:

* Synchronous, and no call takes longer than 60 s, and one that only looks not more than 20 s. Slow work is begun, answered with a
  `TaskRef`, and asked after with `poll`. None instead of a TaskRef: it is done already.
* Every verb may be called twice. Starting what runs, stopping what is off and destroying what
  is gone succeed; creating what exists with our label succeeds and changes nothing.
* Every verb that changes something re-reads the label first and raises `ForeignMachine` where
  it is not ours, `Unseen` where it may not be read. A verb on an absent machine raises `TaskFailed` (not `begin_destroy`, nor
  `begin_stop`: absent is off and gone).
* Errors are those of `errors`, nothing else leaves.
* Instances are used by one thread. Threads and processes each make their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from .errors import Unsupported
from .types import (
    Capabilities,
    Check,
    ConsoleKind,
    ConsoleTarget,
    Endpoint,
    Inventory,
    MachineIdentity,
    MachineSpec,
    Metrics,
    ProviderSettings,
    Sighting,
    SnapshotInfo,
    StopMode,
    TaskRef,
    TaskStatus,
    TemplateInfo,
)


class Provider(ABC):
    kind: ClassVar[str]
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.adopted: Collection[str] = ()  # refs of machines that were there before and are ours; they come and go

    # -- looking ---------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> list[Check]:
        """What works and what does not, for the person who set the cluster up. Never raises."""

    @abstractmethod
    def inventory(self) -> Inventory:
        """Everything there is, in as few calls as the hypervisor allows. Must not be held up
        by one hung guest. Raises Unreachable, AuthFailed."""

    @abstractmethod
    def find(self, identity: MachineIdentity, ref: str) -> Sighting:
        """What sits at `ref`: nothing, ours, or somebody else's. Raises Unreachable, and Unseen where that cannot be told."""

    @abstractmethod
    def poll(self, tasks: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """The state of many tasks at once. A task it does not know is LOST. Raises Unreachable."""

    # -- the verbs -------------------------------------------------------------------------

    @abstractmethod
    def begin_create(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        """Make the machine at `ref`, off, with our label from the first moment on.
        Raises TemplateMissing, StorageFull, InvalidSpec, ForeignMachine, Unseen, Busy, OutcomeUnknown."""

    @abstractmethod
    def ensure_configured(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        """Bring size, seed and baseline of a machine that is off to what `spec` says. Called after
        creation and after a revert, and again after each task it answers, until there is none; may
        be called again at any time while it is off."""

    @abstractmethod
    def begin_start(self, identity: MachineIdentity, ref: str) -> TaskRef | None: ...

    @abstractmethod
    def begin_stop(self, identity: MachineIdentity, ref: str, mode: StopMode) -> TaskRef | None:
        """GRACEFUL answers a task that runs until the guest is off, which may be never: the
        caller holds the deadline and follows with FORCE."""

    @abstractmethod
    def begin_reboot(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        """Reset the machine. It must be on (else NotRunning)."""

    @abstractmethod
    def begin_revert(self, identity: MachineIdentity, ref: str, spec: MachineSpec, snapshot: str = "") -> TaskRef | None:
        """Throw away what changed since `snapshot`, or since the machine was made where that
        is empty. The machine is off first and off afterwards. Other snapshots stay. Where nothing was
        kept of how it was made it is removed, and no more: the caller sees that it is gone and makes it again."""

    @abstractmethod
    def begin_destroy(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        """Remove the machine with its disks, seed and snapshots, on or off. Called again after each
        task it answers, until there is none: one that is on may have to be switched off first."""

    def close(self) -> None:  # noqa: B027 - having nothing to give back is fine
        """Give connections back."""

    # -- extras: each behind its flag in `capabilities` ------------------------------------

    def wait_for_change(self, seconds: float) -> bool:
        """Sleep until something changed on the cluster (True) or `seconds` passed (False).
        Raises Unreachable when the connection is lost meanwhile."""
        raise Unsupported(f"{self.kind} has no events")

    def snapshots(self, identity: MachineIdentity, ref: str) -> list[SnapshotInfo]:
        """Those made by begin_snapshot, oldest first; the baseline is not among them."""
        raise Unsupported(f"{self.kind} has no snapshots")

    def begin_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        """Keep the present state under `name` (letters, digits, dashes). Existing: done."""
        raise Unsupported(f"{self.kind} has no snapshots")

    def begin_delete_snapshot(self, identity: MachineIdentity, ref: str, name: str) -> TaskRef | None:
        raise Unsupported(f"{self.kind} has no snapshots")

    def begin_resize(self, identity: MachineIdentity, ref: str, spec: MachineSpec) -> TaskRef | None:
        """New cores, memory and (only larger) disk; the machine is off. Raises InvalidSpec."""
        raise Unsupported(f"{self.kind} cannot resize")

    def endpoints(self, identity: MachineIdentity, ref: str) -> tuple[Endpoint, ...]:
        """Addresses found by asking the guest, slower than the inventory, and the hardware
        address where the hypervisor knows it (`mac`), even when the guest does not answer. Bounded to 3 s."""
        raise Unsupported(f"{self.kind} does not know addresses")

    def set_guest_password(self, identity: MachineIdentity, ref: str, username: str, password: str) -> None:
        raise Unsupported(f"{self.kind} cannot set passwords")

    def screenshot(self, identity: MachineIdentity, ref: str) -> bytes:
        """The screen as PNG. Raises NotRunning."""
        raise Unsupported(f"{self.kind} has no screenshots")

    def metrics(self) -> list[Metrics]:
        """Load of all running machines in one call, not held up by a hung guest."""
        raise Unsupported(f"{self.kind} has no metrics")

    def templates(self) -> list[TemplateInfo]:
        """Those that can be told now; what hangs is left out. May take its time where much hangs."""
        raise Unsupported(f"{self.kind} does not list templates")

    def may_have_template(self, ref: str) -> bool:
        """Whether a template that `templates` did not list just now may be there all the same, as what it is on did not answer."""
        return False

    def import_template(self, path: str, name: str) -> TemplateInfo:
        """Take a disk image (qcow2) or a Vagrant box from a local file. Refuses an image that
        refers to other files. Raises InvalidSpec, StorageFull."""
        raise Unsupported(f"{self.kind} does not import templates")

    def delete_template(self, ref: str) -> None:
        """Raises Busy while linked clones stand on it."""
        raise Unsupported(f"{self.kind} does not import templates")

    def adopt(self, identity: MachineIdentity, ref: str, guest: str) -> TaskRef | None:
        """Write our label to the guest at `ref`, which has none and is called `guest`, and change nothing
        else. Raises ForeignMachine where it has a label of another or another name, InvalidSpec for a template."""
        raise Unsupported(f"{self.kind} does not adopt machines")

    def release(self, identity: MachineIdentity, ref: str) -> TaskRef | None:
        """Take our label off again, and change nothing else."""
        raise Unsupported(f"{self.kind} does not adopt machines")

    @classmethod
    def certificates(cls, config: Mapping[str, Any]) -> list[Check]:
        """What the cluster of these settings shows as its certificates, trusted or not, for people who
        compare. Nothing secret is sent there. Never raises."""
        return []

    def open_console(self, identity: MachineIdentity, ref: str, kind: ConsoleKind) -> ConsoleTarget:
        """Open a console and say where it is; the secret in it works once and soon ends.
        Raises NotRunning, Unsupported."""
        raise Unsupported(f"{self.kind} has no such console")
