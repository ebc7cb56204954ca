"""The other end of the fake: what tests do to the cluster and read of it, behind the API's back. JSON over HTTP on a Unix socket."""

import time
from dataclasses import asdict

from aiohttp import web
from fakepve.model import PveError, TaskError
from fakepve.server import settle

from .access import ROLES
from .tasks import TaskFault
from .transport import Fault

# What `settings` may change.
SETTINGS = [
    "time_scale",
    "lag",
    "clones_per_storage",
    "storage_lock_wait",
    "lock_wait",
    "console_window",
    "console_seconds",
    "ticket_ttl",
    "durations",
    "tokens_may_use_terminals",
    "version",
    "release_version",
    "tfa",
    "shutdown_default_timeout",
    "ha_delay",
]
# What `change_guest` may change, besides its configuration.
GUEST_SETTINGS = [
    "agent",
    "agent_hangs",
    "acpi",
    "shutdown_secs",
    "start_secs",
    "stop_secs",
    "start_error",
    "ha_state",
    "interfaces",
    "status",
    "qmpstatus",
    "lock",
    "node",
]


class Control:
    """Every public method is a command: POST /<name> with its arguments as a JSON object."""

    def __init__(self, cluster, certificates):
        self._cluster, self._certificates = cluster, certificates

    async def serve(self, socket):
        application = web.Application()
        application.router.add_post("/{command}", self._call)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, socket).start()

    async def _call(self, request):
        command = getattr(self, request.match_info["command"], None)
        if command is None or request.match_info["command"].startswith("_"):
            return web.json_response({"error": f"no such command: {request.match_info['command']}"}, status=404)
        try:
            result = command(**await request.json())
            return web.json_response({"result": await result if hasattr(result, "__await__") else result})
        except (PveError, TaskError, LookupError, TypeError, ValueError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    def _guest(self, vmid):
        guest = self._cluster.guest(vmid)
        if guest is None:
            raise LookupError(f"no guest {vmid}")
        return guest

    # -- guests ------------------------------------------------------------------------------------

    def add_vm(self, vmid, name, node="pve1", config=None, pool=None, template=False, status="stopped", **settings):
        self._cluster.add_vm(vmid, name, node=node, status=status, config=config, pool=pool, template=template)
        self.change_guest(vmid, **settings)

    def add_ct(self, vmid, name, node="pve1", config=None, pool=None, template=False, status="stopped", **settings):
        self._cluster.add_ct(vmid, name, node=node, status=status, config=config, pool=pool, template=template)
        self.change_guest(vmid, **settings)

    def add_many(self, first, count, prefix="stranger", nodes=("pve1", "pve2", "pve3")):
        for number in range(count):
            self._cluster.add_vm(first + number, f"{prefix}-{number}", node=nodes[number % len(nodes)], status="running")
        self._cluster.tell_statistics()

    def change_guest(self, vmid, config=None, delete=(), **settings):
        """Somebody with root's rights edits a guest. `config` is merged into its configuration."""
        guest = self._guest(vmid)
        unknown = set(settings) - set(GUEST_SETTINGS)
        if unknown:
            raise ValueError(f"no such settings of guests: {sorted(unknown)}")
        guest.config.update(config or {})
        for key in delete:
            guest.config.pop(key, None)
        for key, value in settings.items():
            if key == "lock":
                self._cluster.set_lock(guest, value)
            else:
                setattr(guest, key, value)
        if guest in self._cluster.vms and "name" in (config or {}):
            guest.name = config["name"]
        if settings.get("status") == "running":
            guest.started_at = time.time()
        if "status" in settings and hasattr(guest, "qmpstatus") and "qmpstatus" not in settings:
            guest.qmpstatus = settings["status"]

    def remove(self, vmid):
        """Gone, with its disks and pool membership, without a task."""
        guest = self._guest(vmid)
        (self._cluster.vms if guest in self._cluster.vms else self._cluster.cts).remove(guest)
        self._cluster._pool_leave(vmid)

    def replace(self, vmid, name="stranger", kind="vm", **more):
        """Somebody destroys the guest and takes its number for one of theirs."""
        self.remove(vmid)
        (self.add_vm if kind == "vm" else self.add_ct)(vmid, name, **more)

    def guests(self):
        """Every guest as it is now, whatever the API says: nothing late, nothing masked."""
        return [self.guest(guest.vmid) for guest in [*self._cluster.vms, *self._cluster.cts]]

    def guest(self, vmid):
        guest = self._guest(vmid)
        is_vm = guest in self._cluster.vms
        line = {"vmid": vmid, "type": "qemu" if is_vm else "lxc", "name": guest.name, "node": guest.node, "status": guest.status}
        line |= {"template": bool(guest.template), "lock": guest.lock, "pool": guest.pool, "config": guest.config, "pending": guest.pending}
        line |= {"snapshots": guest.snapshots, "credentials": self._cluster.credentials.get(vmid, {})}
        return line | ({"agent": guest.agent, "agent_requests": guest.agent_requests} if is_vm else {})

    async def migrate(self, vmid, node, seconds=0):
        upid = await self._cluster.migrate(vmid, node, secs=seconds)
        await settle()
        return upid

    async def backup(self, vmid, seconds):
        upid = await self._cluster.backup(vmid, secs=seconds)
        await settle()  # by then it has the lock
        return upid

    async def hold_config_lock(self, vmid, seconds=None):
        await self._cluster.hold_config_lock(vmid, seconds)

    def release_config_lock(self, vmid):
        self._cluster.release_config_lock(vmid)

    # -- people --------------------------------------------------------------------------------------

    def add_user(self, user, password, groups=()):
        self._cluster.users[user] = password
        for group in groups:
            self._cluster.groups.setdefault(group, set()).add(user)

    def remove_user(self, user):
        self._cluster.users.pop(user)

    def add_token(self, user, name, privsep=True, expire=0):
        """Returns the secret."""
        return self._cluster.add_token(user, name, privsep, expire)

    def revoke_token(self, token):
        self._cluster.tokens.pop(token)

    def revoke_tickets(self):
        self._cluster.revoke_tickets()

    def grant(self, who, path, privileges=(), role="", propagate=True):
        self._cluster.grant(who, path, *privileges, *(ROLES[role] if role else ()), propagate=propagate)

    def revoke(self, who, path=None):
        """Every grant of somebody, or those at one path."""
        self._cluster.revoke(who, path)

    def add_pool(self, name):
        self._cluster.pools.setdefault(name, set())
        self._cluster.pool_info.setdefault(name, {"comment": None, "storage": set()})

    # -- trouble ---------------------------------------------------------------------------------------

    def fault(self, **fault):
        """See transport.Fault."""
        self._cluster.faults.append(Fault(**fault))

    def fail(self, method, path, error, times=1):
        """An error of fakepve's catalogue, by its name."""
        self._cluster.fail(method, path, error=error, times=times)

    def task_fault(self, **fault):
        """See tasks.TaskFault."""
        self._cluster.task_faults.append(TaskFault(**fault))

    def faults(self):
        """Those that have not happened yet."""
        return [asdict(fault) for fault in [*self._cluster.faults, *self._cluster.task_faults] if fault.times > 0]

    def clear_faults(self):
        self._cluster.faults.clear()
        self._cluster.task_faults.clear()
        self._cluster.failures.clear()

    def node(self, name, online=None, figures=None):
        """Add a node, take it off the network or bring it back, or change what it has (maxmem, mem, maxcpu, cpu)."""
        self._cluster.nodes.setdefault(name, {"online": True})
        if online is not None:
            self._cluster.set_node_offline(name, not online)
        if figures is not None:
            self._cluster.nodes[name]["figures"] = figures

    def quorum(self, present):
        self._cluster.quorate = present

    async def endpoint(self, number, up):
        """The API port of one node: closed, or open again at the same number."""
        await (self._cluster.endpoints[number].up() if up else self._cluster.endpoints[number].down())

    def certificate(self, which):
        """Serve "first" or "second" from the next connection on. Returns the paths and the fingerprint."""
        certificate, key, fingerprint = self._certificates[which]
        self._cluster.use_certificate(certificate, key)
        self._cluster.fingerprint = fingerprint
        return {"cafile": certificate, "fingerprint": fingerprint}

    def storage(self, name, remove=False, **options):
        """Add or change a storage: type, content, shared, active (0: offline), avail and total (bytes) …"""
        if remove:
            del self._cluster.storages[name]
            return
        store = self._cluster.storages.setdefault(name, {"type": "dir", "content": "images,rootdir", "files": set(), "active": 1})
        store.update(options)

    def settings(self, **settings):
        """Change settings of the cluster. `durations` is merged."""
        for key, value in settings.items():
            if key not in SETTINGS:
                raise ValueError(f"no such setting: {key}")
            if key == "durations":
                self._cluster.durations.update(value)
            else:
                setattr(self._cluster, key, value)

    def tell_statistics(self):
        """What pvestatd would tell within 10 s, now."""
        self._cluster.tell_statistics()

    # -- looking ----------------------------------------------------------------------------------------

    def calls(self):
        """{"GET /cluster/resources": how often} since the start or `reset_calls`."""
        return dict(self._cluster.calls)

    def most_at_once(self):
        return self._cluster.most_at_once

    def reset_calls(self):
        self._cluster.calls.clear()
        self._cluster.most_at_once = 0

    def tasks(self):
        return [{**task, "upid": task["upid"]} for task in self._cluster.tasklog]

    def kill_task(self, upid):
        self._cluster.kill(upid)

    def forget_tasks(self):
        self._cluster.forget_tasks()

    def consoles(self):
        """Consoles asked for and not closed yet, with their tickets."""
        return [
            {"vmid": console.guest.vmid, "user": console.user, "text": console.text, "open": console.connected.is_set(), **console.answer}
            for console in self._cluster.consoles
        ]

    def console(self, vmid):
        """What was typed into the consoles of a guest: keysyms, clicks, text, and the size of the terminal."""
        screen, terminal = self._cluster.screens.get(vmid), self._cluster.terminals.get(vmid)
        seen = {"keys": screen.keys, "clicks": screen.clicks, "viewers": len(screen.viewers)} if screen else {"keys": [], "clicks": [], "viewers": 0}
        typed = {"text": terminal.typed.decode(errors="replace"), "size": terminal.size, "keep_alives": terminal.keep_alives} if terminal else {}
        return seen | typed
