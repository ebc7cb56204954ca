"""QEMU guests: clones and their locks, configuration, agent, power."""

import asyncio
import copy
import json
import re
import urllib.parse
from contextlib import asynccontextmanager

from fakepve import agent as guest_agent
from fakepve.lxc import SNAPSHOT_STORAGE, format_size, parse_size
from fakepve.model import TaskError, lock_timeout
from fakepve.qemu import drives_of, join_drive, split_drive, volume_ref
from fakepve.routing import die, param_error, split_list
from fakepve.server import API, USER, ok, params
from fakepve.storage import _is_file

MASKED = "**********"
CLOUDINIT_KEY = re.compile(r"^(ci\w+|sshkeys|nameserver|searchdomain|ipconfig\d+)$")
NUMBERS = ("cores", "sockets", "vcpus", "balloon", "onboot", "protection")
ROOT_KEYS = ("args", "lock")
SHARED = "clone"  # holder of a template's lock while clones of it run
SSH_KEY = re.compile(r"^(ssh-(rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?$")
AGENT_WORKERS = 3  # pvedaemon's: a call that waits for an agent keeps one of them


class MachineRules:
    """Mixin of the fake cluster."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.clones_per_storage = None  # how many may run on one storage before the others wait for its lock
        self.storage_lock_wait = 10  # PVE seconds
        self._cloning: dict[str, int] = {}
        self._sharing: dict[int, int] = {}  # clones at work, by template
        self._destinations: dict[int, str | None] = {}
        self._agent_workers: dict[str, asyncio.Semaphore] = {}

    def _vm(self, request, priv=None):
        """Rights come first: whoever has them through a pool gets 403, not "does not exist", for what is gone."""
        match = self.resolve(request, API)
        info = match.methods[request.method]
        declared = (info.get("parameters") or {}).get("properties", {})
        self.check_permissions(request[USER], info.get("permissions"), {**request.query, **match.params}, declared)
        if (node := match.params["node"]) not in self.nodes:
            raise die(f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known")
        return super()._vm(request, priv)

    # -- clone -------------------------------------------------------------------------------

    async def _qm_clone(self, v, user):
        source = self.vm(int(v["vmid"]))
        if source is None or source.node != v["node"]:
            raise die(f"unable to find configuration file for VM {v['vmid']} on node '{v['node']}'")
        target = v.get("target")
        if target in self.nodes and target != v["node"] and not self._on_shared_storage(source):
            raise die(f"can't clone VM to node '{target}' (VM uses local storage)")
        self._check_bridges(user, source.config)
        self._destinations[int(v["newid"])] = v.get("storage")
        return await super()._qm_clone(v, user)

    def _on_shared_storage(self, vm):
        """Every drive counts, CD-ROMs and the cloud-init drive too, and where the copy goes does not."""
        storages = [volume_ref(volume)[0] for _, volume, _ in drives_of(vm.config)]
        return all(self.storages.get(name, {}).get("shared") for name in storages if name)

    def _check_bridges(self, user, config):
        """PVE 8 and later ask for SDN.Use."""
        for key, value in config.items():
            if re.fullmatch(r"net\d+", key):
                self._check_bridge(user, value)

    async def task(self, node, ttype, tid, user, body, vm=None, **more):
        """While a clone runs, the new guest's configuration has nothing but its lock (observed on PVE 9.2)."""
        if ttype != "qmclone":
            return await super().task(node, ttype, tid, user, body, vm=vm, **more)
        whole, vm.config, vm.name = vm.config, {"lock": "clone"}, ""
        return await super().task(node, ttype, tid, user, lambda: self._clone_worker(self.vm(int(tid)), vm, whole, body), vm=vm, **more)

    async def _busy(self, record, vm):
        if record["type"] != "qmclone":  # that one waits for its locks first
            await super()._busy(record, vm)

    async def _clone_worker(self, source, new, config, body):
        try:
            async with self._shared_lock(source), self._storage_locks(source, self._destinations.pop(new.vmid, None)):
                await self.pause(self.durations["qmclone"])
        except TaskError:
            self.vms.remove(new)
            raise
        new.config, new.name = config, config["name"]
        await body()
        new.agent, new.agent_hangs = copy.deepcopy(source.agent), source.agent_hangs
        self._own_cloudinit_drive(new)

    @asynccontextmanager
    async def _shared_lock(self, source):
        """Clones of one template share its lock and wait 1 s for whoever holds it alone (observed on PVE 9.2)."""
        waited, step = 0.0, 0.1
        while source.lock_holder not in (None, SHARED):
            if waited >= 1 or not self.time_scale:
                raise TaskError(lock_timeout(source.vmid))
            await self.pause(step)
            waited += step
        source.lock_holder = SHARED
        self._sharing[source.vmid] = self._sharing.get(source.vmid, 0) + 1
        try:
            yield
        finally:
            self._sharing[source.vmid] -= 1
            if not self._sharing[source.vmid]:
                self.release(source, SHARED)

    @asynccontextmanager
    async def _storage_locks(self, source, destination):
        volumes = [volume for _, volume, _ in drives_of(source.config, skip_cdrom=True)]
        taken = []
        try:
            for name in sorted({destination or volume_ref(volume)[0] for volume in volumes} & set(self.storages)):
                await self._storage_lock(name)
                taken.append(name)
            yield
        finally:
            for name in taken:
                self._cloning[name] -= 1

    async def _storage_lock(self, name):
        limit, waited, step = self.clones_per_storage, 0.0, 0.25
        while limit is not None and self._cloning.get(name, 0) >= limit:
            if waited >= self.storage_lock_wait or not self.time_scale:
                raise TaskError("clone failed: " + self._lock_text(name))
            await self.pause(step)
            waited += step
        self._cloning[name] = self._cloning.get(name, 0) + 1

    def _lock_text(self, name):
        if self.storages[name].get("shared"):
            return f"cfs-lock 'storage-{name}' error: got lock request timeout"
        return f"can't lock file '/var/lock/pve-manager/pve-storage-{name}' - got timeout"

    def _own_cloudinit_drive(self, vm):
        for key, volume, props in drives_of(vm.config):
            storage, name = volume_ref(volume)
            if storage in self.storages and "cloudinit" in name:
                store = self.storages[storage]
                own = f"{vm.vmid}/vm-{vm.vmid}-cloudinit.qcow2" if _is_file(store) else f"vm-{vm.vmid}-cloudinit"
                store.setdefault("volumes", {})[own] = {"content": "images", "format": "raw", "size": 4 << 20, "vmid": vm.vmid, "ctime": 0}
                vm.config[key] = join_drive(f"{storage}:{own}", props)

    # -- destroy ---------------------------------------------------------------------------------

    async def _qm_destroy(self, v, user):
        """Without quorum /etc/pve is read-only. A template stays while linked clones need its disks, except on lvm-thin."""
        self.need_quorum()
        vm = self.find(v["node"], v["vmid"])
        for _, volume, _ in drives_of(vm.config, skip_cdrom=True):
            storage, name = volume_ref(volume)
            base = name.split("/")[-1]
            if base.startswith("base-") and self.storages.get(storage, {}).get("type") != "lvmthin" and self._linked(vm, storage, base):

                async def refuse(volume=volume):
                    raise TaskError(f"base volume '{volume}' is still in use by linked cloned")

                return await self.task(vm.node, "qmdestroy", vm.vmid, user, refuse, vm=vm)
        return await super()._qm_destroy(v, user)

    def _linked(self, template, storage, base):
        drives = [volume for vm in self.vms if vm is not template for _, volume, _ in drives_of(vm.config)]
        return any(volume.startswith(storage + ":") and f"/{base}/" in volume for volume in drives)

    # -- configuration -----------------------------------------------------------------------------

    async def _config_get(self, request):
        config = json.loads((await super()._config_get(request)).text)["data"]
        if "cipassword" in config:
            config["cipassword"] = MASKED
        return ok(config)

    def _config_priv(self, key):
        if key in ROOT_KEYS:
            raise die(f"only root can set '{key}' config")
        if CLOUDINIT_KEY.match(key):
            return "VM.Config.Cloudinit"
        if key in ("ostype", "tablet", "hotplug", "kvm", "localtime", "startdate", "acpi", "reboot"):
            return "VM.Config.Options"
        return super()._config_priv(key)

    async def _apply_config(self, vm, user, p):
        if user != "root@pam":
            if p.get("skiplock"):
                raise param_error(skiplock="Only root may use this option.")
            if "startup" in p:
                self.require(user, "/", "Sys.Modify")
            self._check_bridges(user, p)
        for key in urllib.parse.unquote(str(p.get("sshkeys", ""))).splitlines():
            if key.strip() and not SSH_KEY.match(key.strip()):
                raise die("SSH public key validation error")
        await super()._apply_config(vm, user, {key: int(value) if key in NUMBERS else value for key, value in p.items()})
        if "tags" in p and vm.config.get("tags"):
            vm.config["tags"] = ";".join(sorted({tag.lower() for tag in re.split(r"[;, ]+", str(vm.config["tags"])) if tag}))

    def _routes_machines(self):
        one = "/nodes/{node}/qemu/{vmid}"
        return [("GET", one + "/feature", self._feature), ("PUT", one + "/resize", self._resize)]

    async def _feature(self, v, user):
        vm = self.find(v["node"], v["vmid"])
        return {"hasFeature": int(self._can(vm, v["feature"])), "nodes": [vm.node]}

    def _can(self, vm, feature):
        if feature == "snapshot":
            return not vm.template and self._qm_can_snapshot(vm.config)
        if feature == "clone":  # linked
            stores = [self.storages.get(volume_ref(volume)[0], {}) for _, volume, _ in drives_of(vm.config, skip_cdrom=True)]
            return vm.template and all(store.get("type") in SNAPSHOT_STORAGE or _is_file(store) for store in stores)
        return True

    async def _resize(self, v, user):
        vm = self.find(v["node"], v["vmid"])
        self._check_lock(vm)
        if v["disk"] not in vm.config:
            raise die(f"disk '{v['disk']}' does not exist")
        volume, props = split_drive(vm.config[v["disk"]])
        old, wanted = parse_size(props.get("size", "0")) or 0, str(v["size"])
        new = old + parse_size(wanted[1:]) if wanted.startswith("+") else parse_size(wanted)
        if new < old:
            raise die("shrinking disks is not supported")

        async def body():
            storage, name = volume_ref(volume)
            store = self.storages[storage]
            if "avail" in store:
                if new - old > store["avail"]:
                    raise TaskError(f"unable to resize '{volume}' - No space left on device")
                store["avail"] -= new - old
            if name in store.get("volumes", {}):
                store["volumes"][name]["size"] = new
            vm.config[v["disk"]] = join_drive(volume, dict(props, size=format_size(new)))

        return await self.task(vm.node, "resize", vm.vmid, user, body, vm=vm)

    # -- agent ----------------------------------------------------------------------------------------

    async def _agent_call(self, match, values):
        """A guest without agent costs 3 s of one of the node's three workers; the others wait (observed on PVE 9.2)."""
        vm = self.find(values["node"], values["vmid"])
        enabled = split_list(vm.config.get("agent", "0"))[0].removeprefix("enabled=")
        if enabled != "1":
            raise die("No QEMU guest agent configured")
        if vm.status != "running":
            raise die(f"VM {vm.vmid} is not running")
        async with self._agent_workers.setdefault(vm.node, asyncio.Semaphore(AGENT_WORKERS)):
            if vm.agent is None:
                await self.pause(3)
                raise die("QEMU guest agent is not running")
            if vm.agent_hangs:
                await self.pause(5)
                raise die(f"VM {vm.vmid} qmp command 'guest-ping' failed - got timeout")
        command = match.template.rsplit("/", 1)[1]
        guest_agent.record(vm, command, values)
        if command == "set-user-password":
            vm.agent["passwords"] = {**vm.agent.get("passwords", {}), values["username"]: values["password"]}
        return self._with_macs(vm, guest_agent.result(vm, command, values))

    @staticmethod
    def _with_macs(guest, answer):
        """The scene writes "net0" where an answer is to have the hardware address of that card."""
        text = json.dumps(answer)
        for key, value in guest.config.items():
            found = re.search(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", str(value), re.I) if re.fullmatch(r"net\d+", key) else None
            if found:
                text = text.replace(f'"{key}"', json.dumps(found.group().lower()))
        return json.loads(text)

    # -- power -------------------------------------------------------------------------------------------

    async def _status_action(self, request):
        given = await params(request)
        if given.get("skiplock") and request[USER] != "root@pam":
            raise param_error(skiplock="Only root may use this option.")
        return await super()._status_action(request)

    async def _do_shutdown(self, vm, user, p):
        """Of a VM that is off it succeeds (observed on PVE 9.2); a paused one cannot hear it."""
        if vm.status != "running":

            async def nothing():
                return None

            return await self.task(vm.node, "qmshutdown", vm.vmid, user, nothing, vm=vm)
        if vm.qmpstatus == "paused":
            raise die("VM is paused - cannot shutdown")
        return await super()._do_shutdown(vm, user, p)

    async def _do_stop(self, vm, user, p):
        if str(p.get("overrule-shutdown", "0")) in ("1", "true"):
            self.kill_all("qmshutdown", vm.vmid)
        return await super()._do_stop(vm, user, p)
