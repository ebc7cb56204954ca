"""Tasks of Proxmox VE: their names (UPID), following many at once, and finding one that makes a guest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from machines.providers.errors import InvalidSpec, NotRunning, OutcomeUnknown, ProviderError, Unreachable
from machines.providers.types import TaskRef, TaskState, TaskStatus

from .answers import AlreadyRunning, Forbidden, NoSuchTask, NotThere, task_error, warnings
from .breakers import Breakers
from .client import Client
from .resources import lines

LISTED = 500  # of one node at most; those beyond are asked for one by one
POLL_SECONDS = 3.0  # that one node is waited for
FEW = 1  # tasks of a node that are cheaper to ask for than to list
MAKING = ("qmclone", "vzclone", "qmcreate", "vzcreate", "qmrestore", "vzrestore")
OF_MANY = ("vzdump", "migrateall", "startall", "stopall", "suspendall")
CONSOLES = ("vncproxy", "termproxy", "spiceproxy")  # as long as somebody looks at it
_UPID = re.compile(r"UPID:([A-Za-z0-9][A-Za-z0-9-]*):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:([0-9A-Fa-f]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):")
_CLONED = re.compile(r"clon\w* .*\bwith ID (\d+)")

# What a task failed of when its purpose is reached all the same.
REACHED: Mapping[str, type[ProviderError]] = {"start": AlreadyRunning, "stop": NotRunning, "force": NotRunning, "destroy": NotThere}


@dataclass(frozen=True, slots=True)
class Upid:
    node: str
    started: int  # seconds since the epoch
    type: str
    vmid: str  # of a clone: that of its template


def parse(text: str) -> Upid | None:
    found = _UPID.fullmatch(text)
    return Upid(found[1], int(found[2], 16), found[3], found[4]) if found else None


def task_ref(answer: object, verb: str) -> TaskRef | None:
    """Of the answer to a call. None: it did its work without a task."""
    if not isinstance(answer, str) or (upid := parse(answer)) is None:
        return None
    return TaskRef(answer, verb, upid.node)


class Tasks:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._nodes = Breakers()
        self._made: dict[str, str] = {}  # by UPID of a clone: the number it makes, "" where it is not said

    def poll(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """One call per node. A node that does not answer holds up its own tasks only. Raises Unreachable where the cluster does not."""
        by_node: dict[str, list[tuple[TaskRef, Upid]]] = {}
        statuses: dict[TaskRef, TaskStatus] = {}
        for ref in refs:
            if (upid := parse(ref.id)) is None:
                statuses[ref] = TaskStatus(TaskState.LOST)
            else:
                by_node.setdefault(upid.node, []).append((ref, upid))
        silent = 0
        for node, asked in by_node.items():
            statuses.update((ref, TaskStatus(TaskState.RUNNING)) for ref, _ in asked)
            if not self._nodes.allows(node):
                continue
            try:
                with self._client.within(POLL_SECONDS):
                    statuses.update(self._of_node(node, asked))
                self._nodes.answered(node)
            except Unreachable as error:
                self._nodes.failed(node, error, certain=True)
                silent += 1
            except ProviderError:
                self._nodes.left(node)
                raise
        if silent and silent == len(by_node):  # is it them, or the cluster?
            self._client.get("version")
        return statuses

    def _of_node(self, node: str, asked: list[tuple[TaskRef, Upid]]) -> dict[TaskRef, TaskStatus]:
        listed: dict[str, dict[str, Any]] = {}
        if len(asked) > FEW:
            since = min(upid.started for _, upid in asked) - 1
            answer = self._client.get(f"nodes/{node}/tasks", source="all", since=since, limit=LISTED)
            listed = {str(line.get("upid")): line for line in lines(answer)}
        return {ref: self._listed(ref, listed[ref.id]) if ref.id in listed else self._single(ref, upid) for ref, upid in asked}

    def _single(self, ref: TaskRef, upid: Upid) -> TaskStatus:
        try:
            answer = self._client.get(f"nodes/{upid.node}/tasks/{ref.id}/status")
        except (NoSuchTask, Forbidden, InvalidSpec):
            return TaskStatus(TaskState.LOST)
        if not isinstance(answer, dict) or answer.get("status") != "stopped":
            return TaskStatus(TaskState.RUNNING)
        return self._ended(ref, str(answer.get("exitstatus") or ""))

    def _listed(self, ref: TaskRef, line: Mapping[str, Any]) -> TaskStatus:
        return self._ended(ref, str(line.get("status") or "")) if line.get("endtime") else TaskStatus(TaskState.RUNNING)

    def _ended(self, ref: TaskRef, exitstatus: str) -> TaskStatus:
        error = task_error(exitstatus)
        if error is None or isinstance(error, REACHED.get(ref.kind, ())):
            # Whether a disk was left cannot be looked up: nobody sees a disk without an owner who may not see all of its storage.
            return TaskStatus(TaskState.SUCCEEDED, left=ref.disks if warnings(exitstatus) else ())
        if isinstance(error, OutcomeUnknown):
            return TaskStatus(TaskState.LOST)
        return TaskStatus(TaskState.FAILED, error=error)

    def making(self, vmid: int, nodes: Iterable[str]) -> TaskRef | None:
        """The task that is making guest `vmid` now, of those this account may see. A clone's name has only its
        template's number: which guest it makes is in the first line of its log. One that does not say may be it.
        Raises Unreachable where a node does not say and none of the others is making it."""
        possible: TaskRef | None = None
        silent: Unreachable | None = None
        for node in nodes:
            try:
                active = list(lines(self._client.get(f"nodes/{node}/tasks", source="active", limit=LISTED)))
            except Unreachable as error:
                silent = error
                continue
            for line in active:
                upid = parse(str(line.get("upid")))
                if upid is None or upid.type not in MAKING or line.get("endtime"):
                    continue
                makes = self._cloned(str(line["upid"]), upid) if upid.type.endswith("clone") else upid.vmid
                if makes == str(vmid):
                    return TaskRef(str(line["upid"]), "create", upid.node)
                if not makes:
                    possible = TaskRef(str(line["upid"]), "create", upid.node)
        if possible is None and silent is not None:
            raise silent
        return possible

    def may_hold(self, vmid: int, node: str) -> bool:
        """Whether a task that goes on may be what locks guest `vmid`. True where this account does not see the tasks of others."""
        permissions = self._client.get("access/permissions", path=f"/nodes/{node}")
        told = permissions.get(f"/nodes/{node}") if isinstance(permissions, dict) else None
        if not isinstance(told, dict) or "Sys.Audit" not in told:
            return True
        for line in lines(self._client.get(f"nodes/{node}/tasks", source="active", limit=LISTED)):
            upid = parse(str(line.get("upid")))
            if upid is None or upid.type in CONSOLES or line.get("endtime"):
                continue
            if upid.vmid == str(vmid) or upid.type in OF_MANY or (upid.type in MAKING and self._cloned(str(line["upid"]), upid) in ("", str(vmid))):
                return True
        return False

    def end_shutdown(self, vmid: int, node: str) -> None:
        """End the tasks that wait for guest `vmid` to shut down. Those of others are left alone."""
        for line in lines(self._client.get(f"nodes/{node}/tasks", source="active", vmid=vmid, limit=LISTED)):
            upid = parse(str(line.get("upid")))
            if upid and upid.type in ("qmshutdown", "vzshutdown") and upid.vmid == str(vmid) and not line.get("endtime"):
                with suppress(Forbidden, NoSuchTask):
                    self._client.delete(f"nodes/{node}/tasks/{line['upid']}")

    def _cloned(self, text: str, upid: Upid) -> str:
        if not self._made.get(text):
            if len(self._made) > 10 * LISTED:
                self._made.clear()
            try:
                log = self._client.get(f"nodes/{upid.node}/tasks/{text}/log", limit=5)
            except ProviderError:
                return ""
            said = " ".join(str(line.get("t")) for line in lines(log))
            self._made[text] = found[1] if (found := _CLONED.search(said)) else ""
        return self._made[text]
