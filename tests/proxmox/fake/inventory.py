"""/cluster/resources and the nodes: what is fresh there, what is late, what is left out."""

import asyncio
import json
import re

from fakepve.server import USER, ok

GIB = 1 << 30
# What pvestatd of each node tells the others every 10 s. The rest is read from the configuration files at once.
LATE = ("name", "status", "template", "cpu", "mem", "memhost", "maxcpu", "maxmem", "maxdisk", "disk", "uptime", "netin", "netout", "diskread", "diskwrite")


class InventoryRules:
    """Mixin of the fake cluster. `lag` is in PVE seconds: 0 shows everything at once, None nothing until `tell_statistics`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lag = 10.0
        self.fingerprint = ""  # of the certificate that is served
        self._told: dict[str, dict] = {}
        self._statistics = None

    def start_statistics(self):
        self._statistics = asyncio.ensure_future(self._tell())

    def stop_statistics(self):
        if self._statistics:
            self._statistics.cancel()

    async def _tell(self):
        while True:
            if self.lag:
                self.tell_statistics()
            await asyncio.sleep(max(0.02, (self.lag or 1) * self.time_scale))

    def tell_statistics(self):
        self._told = {guest.guest: self._statistics_of(guest) for guest in [*self.vms, *self.cts]}

    def _statistics_of(self, guest):
        if guest in self.vms:
            line = {**self._vm_usage(guest), "status": guest.status if guest.qmpstatus in ("running", "stopped") else guest.qmpstatus}
        else:
            line = self._status(guest)
            line["maxcpu"] = line.pop("cpus")
        line |= {"name": guest.name or f"VM {guest.vmid}", "template": int(bool(guest.template))}
        return {key: line[key] for key in LATE if key in line}

    async def _resources(self, request):
        user = request[USER]
        lines = json.loads((await super()._resources(request)).text)["data"]
        return ok([line for line in (self._as_listed(line, user) for line in lines) if line])

    def _as_listed(self, line, user):
        if line["type"] == "node":
            return self._node_line(line, user)
        if line["type"] == "storage":
            return line if self.allowed(user, "/storage/" + line["storage"], "Datastore.Audit") else None
        if line["status"] == "unknown":  # its node is offline
            return {key: value for key, value in line.items() if key not in LATE or key in ("name", "status", "template")}
        late = {key: value for key, value in line.items() if key not in LATE}
        told = self._told.get(line["id"])
        if self.lag == 0 or not self.time_scale:
            guest = self.guest(line["vmid"])
            told = self._statistics_of(guest) if guest else {}
        # A guest nobody has told of yet has no name and no template key (observed on PVE 9.2).
        return late | (told if told is not None else {"status": "unknown"})

    # -- nodes and storages -----------------------------------------------------------------------

    async def _nodes(self, request):
        lines = json.loads((await super()._nodes(request)).text)["data"]
        return ok([{**self._node_line(line, request[USER]), "ssl_fingerprint": self.fingerprint} for line in lines])

    def _node_line(self, line, user):
        """The figures of a node are for those with Sys.Audit on it."""
        names = ("node", "id", "status", "type", "level", "ssl_fingerprint")
        bare = {key: value for key, value in line.items() if key in names}
        if line["status"] != "online" or not self.allowed(user, "/nodes/" + line["node"], "Sys.Audit"):
            return bare
        return line | self.node_figures(line["node"])

    def node_figures(self, node):
        running = [guest for guest in [*self.vms, *self.cts] if guest.node == node and guest.status == "running"]
        used = sum(int(re.match(r"\d+", str(guest.config.get("memory") or 512)).group()) for guest in running) << 20
        figures = {"maxcpu": 8, "maxmem": 32 * GIB, "mem": 2 * GIB + used, "cpu": 0.02}
        return figures | self.nodes[node].get("figures", {})

    def _storage_resource(self, node, name):
        line = super()._storage_resource(node, name)
        if line:
            total, used, free = self._space(self.storages[name])
            line |= {"maxdisk": total, "disk": total - free if "avail" in self.storages[name] else used}
        return line
