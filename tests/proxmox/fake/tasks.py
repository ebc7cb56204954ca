"""Workers: how long they take, how they end, what can be asked about them."""

import asyncio
import re
import time
from dataclasses import dataclass

from fakepve.model import FakeVm, PveError, TaskError
from fakepve.routing import param_error, split_list

KILLED = "unexpected status"  # what PVE says of a worker that went away
UPID = re.compile(r"^UPID:[^:]+:[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8}:[^:]+:[^:]*:[^:]+:$")

# Locks a guest shows while the worker is busy, as `lock` in its configuration.
SHOWN_LOCKS = {
    "qmsnapshot": "snapshot",
    "qmdelsnapshot": "snapshot-delete",
    "qmrollback": "rollback",
    "vzsnapshot": "snapshot",
    "vzdelsnapshot": "snapshot-delete",
    "vzrollback": "rollback",
}


@dataclass
class TaskFault:
    """How coming workers of one type end. With `done`, the work is done all the same."""

    type: str
    message: str
    times: int = 1
    done: bool = False


class TaskRules:
    """Mixin of the fake cluster."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.durations = {"qmclone": 2, "vzclone": 3, "vzcreate": 4, "qmstart": 1, "vzstart": 1, "qmsnapshot": 1, "qmrollback": 1, "qmdestroy": 1}
        self.durations |= {"vzdump": 0, "qmigrate": 0, "vncproxy": 0, "vzproxy": 0}  # these last as long as what they are for
        self.task_faults: list[TaskFault] = []
        self._workers: dict[str, asyncio.Task] = {}

    # -- running -------------------------------------------------------------------------------

    async def task(self, node, ttype, tid, user, body, vm=None, lock=True, log=(), background=False):
        """Fork a worker. `background` ones (consoles) outlive the call even where time stands still."""
        upid, pid, start = self._upid(node, ttype, tid, user)
        record = {"upid": upid, "node": node, "pid": pid, "pstart": pid * 7, "starttime": start}
        record |= {"type": ttype, "id": str(tid), "user": user, "status": "running", "log": list(log)}
        self.tasks[upid] = record
        self.tasklog.append(record)
        if self.time_scale or background:
            self._workers[upid] = asyncio.ensure_future(self._work(record, body, vm, lock))
        else:
            await self._work(record, body, vm, lock)
        return upid

    async def _work(self, record, body, vm, lock):
        locked = vm is not None and lock
        status = KILLED
        try:
            if locked:
                await self.acquire(vm, record["upid"])
            try:
                await self._busy(record, vm)
                status = await self._outcome(record, body, vm)
            finally:
                if locked:
                    self.release(vm, record["upid"])
        except (TaskError, PveError) as error:
            status = getattr(error, "message", str(error))
        finally:
            ended = status == "OK" or status.startswith("WARNINGS:")
            record["log"].append(f"TASK {status}" if ended else f"TASK ERROR: {status}")
            record.update(status="stopped", exitstatus=status, endtime=int(time.time()))
            self._workers.pop(record["upid"], None)

    async def _busy(self, record, vm):
        shown = SHOWN_LOCKS.get(record["type"]) if vm is not None and not vm.lock else None
        if shown:
            self.set_lock(vm, shown)
        try:
            await self.pause(self.durations.get(record["type"], 0.5))
        finally:
            if shown:
                self.set_lock(vm, None)

    async def _outcome(self, record, body, vm):
        fault = next((fault for fault in self.task_faults if fault.type == record["type"] and fault.times > 0), None)
        if fault:
            fault.times -= 1
        warned = fault and fault.message.startswith("WARNINGS:")
        if fault and not (fault.done or warned):
            self._undo(record, vm)
            raise TaskError(fault.message)
        note = await body()
        if note:
            record["log"].append(note)
        if fault and not warned:
            raise TaskError(fault.message)
        return fault.message if fault else "OK"

    def _undo(self, record, new):
        """What should have made a guest and failed leaves nothing of it."""
        if record["type"] in ("qmclone", "qmcreate"):
            self.vms.remove(new)
        elif record["type"] in ("vzclone", "vzcreate"):
            self._drop(new)
        if record["type"] == "vzclone":
            self.ct(int(record["id"])).lock = None

    @staticmethod
    def set_lock(guest, value):
        guest.lock = value
        if isinstance(guest, FakeVm):  # containers keep it in their configuration anyway
            guest.config.pop("lock", None)
            if value:
                guest.config["lock"] = value

    def kill(self, upid):
        """End a worker where it stands. What it had locked stays locked in the configuration."""
        worker = self._workers.get(upid)
        if worker:
            worker.cancel()

    def kill_all(self, ttype, vmid):
        for record in self.tasklog:
            if record["type"] == ttype and record["id"] == str(vmid) and record["status"] == "running":
                self.kill(record["upid"])

    def forget_tasks(self):
        """The node was set up anew: its task files are gone."""
        self.tasks, self.tasklog = {}, []

    # -- asking ----------------------------------------------------------------------------------

    def _routes_tasks(self):
        return [("DELETE", "/nodes/{node}/tasks/{upid}", self._task_kill)]

    def _task_view(self, task, listing=False):
        view = super()._task_view(task, listing)
        view["user"] = task["user"].partition("!")[0]
        return view

    def _task_of(self, upid, node, user):
        if not UPID.match(upid):
            raise param_error(upid="unable to parse worker upid")
        record = self.tasks.get(upid)
        if record is None or record["node"] != node:
            raise param_error(upid="no such task")
        if not self._task_owner(user, record):
            self.require(user, "/nodes/" + node, "Sys.Audit")
        return record

    def _get_task(self, request):
        from fakepve.server import USER

        return self._task_of(request.match_info["upid"], request.match_info["node"], request[USER])

    async def _task_kill(self, values, user):
        record = self._task_of(values["upid"], values["node"], user)
        if not self._task_owner(user, record):
            self.require(user, "/nodes/" + values["node"], "Sys.Modify")
        self.kill(record["upid"])
        worker = self._workers.get(record["upid"])
        if worker:
            await asyncio.wait([worker])

    async def _task_list(self, request):
        """source=archive (the default) shows what has ended, active what runs, all both."""
        from fakepve.server import USER, ok, params

        values, user = self._verify(request, await params(request)), request[USER]
        node = values["node"]
        everything = self.allowed(user, "/nodes/" + node, "Sys.Audit")
        types, source = split_list(values.get("typefilter")), values.get("source", "archive")

        def wanted(task):
            running = task["status"] == "running"
            return (
                task["node"] == node
                and (everything or self._task_owner(user, task))
                and (source == "all" or running == (source == "active"))
                and (not types or task["type"] in types)
                and values.get("vmid") in (None, int(task["id"]) if task["id"].isdigit() else None)
                and values.get("since", 0) <= task["starttime"] <= values.get("until", 1 << 40)
                and str(values.get("userfilter", "")) in task["user"]
                and (not values.get("errors") or (not running and task["exitstatus"] != "OK"))
            )

        found = sorted(filter(wanted, reversed(self.tasklog)), key=lambda task: -task["starttime"])
        start = values.get("start", 0)
        return ok([self._task_view(task, True) for task in found[start : start + values.get("limit", 50)]])
