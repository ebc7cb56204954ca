"""The consoles of a Proxmox VE cluster, and nothing else of it."""

from urllib.parse import quote, urlencode

from machines.providers.base import Provider
from machines.providers.errors import NotRunning, Unsupported
from machines.providers.proxmox.client import Client
from machines.providers.types import Capabilities, ConsoleKind, ConsoleTarget, Inventory


class Consoles(Provider):
    kind = "proxmox"
    capabilities = Capabilities(screen=True, terminal=True, numbered=True)

    def open_console(self, identity, ref, kind):
        config = self.settings.config
        with Client(config, self.settings.secret).pinned() as client:
            guest = next(guest for guest in client.get("cluster/resources", type="vm") if str(guest["vmid"]) == ref)
            path = f"nodes/{guest['node']}/{guest['type']}/{ref}"
            if client.get(f"{path}/status/current")["status"] != "running":
                raise NotRunning
            if kind is ConsoleKind.TERMINAL and guest["type"] == "qemu" and "serial0" not in client.get(f"{path}/config"):
                raise Unsupported
            answer = client.post(f"{path}/termproxy") if kind is ConsoleKind.TERMINAL else client.post(f"{path}/vncproxy", websocket=True)
            asked = urlencode({"port": answer["port"], "vncticket": answer["ticket"]}, quote_via=quote, safe="")
            target = ConsoleTarget(
                kind,
                url=f"wss://{client.endpoint}/api2/json/{path}/vncwebsocket?{asked}",
                headers=client.headers,
                ca=config["ca"] if config["tls"] == "ca" else "",
                fingerprint=" ".join(config["fingerprints"]) if config["tls"] == "fingerprint" else "",
                password=answer.get("password", answer["ticket"]),
                greeting=f"{answer['user']}:{answer['ticket']}\n",
            )
            client.close()
            return target

    def check(self):
        return []

    def inventory(self):
        return Inventory(machines=())

    def _cannot(self, *_):
        raise NotImplementedError

    find = poll = begin_create = ensure_configured = begin_start = begin_stop = begin_reboot = begin_revert = begin_destroy = _cannot
