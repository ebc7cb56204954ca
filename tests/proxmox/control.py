"""The test's end of the control channel: what can be done to the fake cluster, and read of it, behind its API's back."""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 30


class ControlError(Exception):
    """The fake did not understand, or knows no such guest, storage or token."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def interface(*addresses: str, mac: str = "net0", name: str = "eth0") -> dict[str, Any]:
    """A network card as a guest agent tells it; "net0" becomes the hardware address of the guest's first card."""
    told = [{"ip-address": address, "ip-address-type": "ipv6" if ":" in address else "ipv4", "prefix": 24} for address in addresses]
    return {"name": name, "hardware-address": mac, "ip-addresses": told}


class Control:
    """One command, one call. Seconds are Proxmox's unless it says otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _do(self, command: str, **arguments: Any) -> Any:
        connection = _UnixConnection(self._path)
        try:
            connection.request("POST", f"/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer["result"]

    # -- guests ----------------------------------------------------------------------------------

    def add_vm(self, vmid: int, name: str, **more: Any) -> None:
        """node, config, pool, template, status, and what `change_guest` takes."""
        self._do("add_vm", vmid=vmid, name=name, **more)

    def add_ct(self, vmid: int, name: str, **more: Any) -> None:
        self._do("add_ct", vmid=vmid, name=name, **more)

    def add_many(self, first: int, count: int, prefix: str = "stranger") -> None:
        """Running machines of others, spread over the nodes."""
        self._do("add_many", first=first, count=count, prefix=prefix)

    def change_guest(self, vmid: int, *, config: Mapping[str, Any] | None = None, delete: Sequence[str] = (), **settings: Any) -> None:
        """Somebody edits a guest: its configuration, or status, lock, node, agent (None: it has none), agent_hangs, acpi (False: it
        ignores the power button), shutdown_secs, start_secs, start_error, interfaces (of containers) …"""
        self._do("change_guest", vmid=vmid, config=dict(config or {}), delete=list(delete), **settings)

    def remove(self, vmid: int) -> None:
        self._do("remove", vmid=vmid)

    def replace(self, vmid: int, name: str = "stranger", kind: str = "vm", **more: Any) -> None:
        """Somebody destroys the guest and uses its number for one of theirs. kind: vm or ct."""
        self._do("replace", vmid=vmid, name=name, kind=kind, **more)

    def guests(self) -> list[dict[str, Any]]:
        """Every guest as it is now: nothing late, nothing masked."""
        found: list[dict[str, Any]] = self._do("guests")
        return found

    def guest(self, vmid: int) -> dict[str, Any]:
        """vmid, type, name, node, status, template, lock, pool, config, pending, snapshots, credentials, agent, agent_requests."""
        found: dict[str, Any] = self._do("guest", vmid=vmid)
        return found

    def migrate(self, vmid: int, node: str, seconds: float = 0) -> str:
        return str(self._do("migrate", vmid=vmid, node=node, seconds=seconds))

    def backup(self, vmid: int, seconds: float) -> str:
        """A backup that holds the lock so long."""
        return str(self._do("backup", vmid=vmid, seconds=seconds))

    def hold_config_lock(self, vmid: int, seconds: float | None = None) -> None:
        self._do("hold_config_lock", vmid=vmid, seconds=seconds)

    def release_config_lock(self, vmid: int) -> None:
        self._do("release_config_lock", vmid=vmid)

    # -- people ------------------------------------------------------------------------------------

    def add_user(self, user: str, password: str, groups: Sequence[str] = ()) -> None:
        self._do("add_user", user=user, password=password, groups=list(groups))

    def remove_user(self, user: str) -> None:
        self._do("remove_user", user=user)

    def add_token(self, user: str, name: str, *, privsep: bool = True, expire: int = 0) -> str:
        """Returns the secret. expire: seconds since the epoch."""
        return str(self._do("add_token", user=user, name=name, privsep=privsep, expire=expire))

    def revoke_token(self, token: str) -> None:
        """token: user@realm!name"""
        self._do("revoke_token", token=token)

    def revoke_tickets(self) -> None:
        self._do("revoke_tickets")

    def grant(self, who: str, path: str, privileges: Sequence[str] = (), *, role: str = "", propagate: bool = True) -> None:
        """who: a user, a token (user@realm!name) or a @group."""
        self._do("grant", who=who, path=path, privileges=list(privileges), role=role, propagate=propagate)

    def revoke(self, who: str, path: str | None = None) -> None:
        self._do("revoke", who=who, path=path)

    def add_pool(self, name: str) -> None:
        self._do("add_pool", name=name)

    # -- trouble -----------------------------------------------------------------------------------

    def fault(
        self,
        method: str,
        path: str,
        *,
        times: int = 1,
        skip: int = 0,
        status: int = 0,
        message: str = "",
        html: bool = False,
        done: bool = False,
        delay: float = 0,
        drop: bool = False,
        hang: bool = False,
    ) -> None:
        """Trouble for coming calls. path: a regular expression for the whole path or its template ("/nodes/{node}/qemu/{vmid}/clone").
        With `done` the call does its work, and only the answer is a `status`, cut off (`drop`) or never given (`hang`)."""
        trouble = {"status": status, "message": message, "html": html, "done": done, "delay": delay, "drop": drop, "hang": hang}
        self._do("fault", method=method, path=path, times=times, skip=skip, **trouble)

    def fail(self, method: str, path: str, error: str, times: int = 1) -> None:
        """An error of fakepve's catalogue by its name; path: an end of a path, or a template."""
        self._do("fail", method=method, path=path, error=error, times=times)

    def task_fault(self, kind: str, message: str, *, times: int = 1, done: bool = False) -> None:
        """How coming tasks of a type ("qmclone") end. "WARNINGS: 1" and those with `done` have done their work."""
        self._do("task_fault", type=kind, message=message, times=times, done=done)

    def faults(self) -> list[dict[str, Any]]:
        """Those that have not happened yet."""
        found: list[dict[str, Any]] = self._do("faults")
        return found

    def clear_faults(self) -> None:
        self._do("clear_faults")

    def node(self, name: str, *, online: bool | None = None, figures: Mapping[str, float] | None = None) -> None:
        """Add a node, take it off the network, bring it back, or say what it has: maxmem, mem (bytes), maxcpu, cpu."""
        self._do("node", name=name, online=online, figures=None if figures is None else dict(figures))

    def quorum(self, present: bool) -> None:
        self._do("quorum", present=present)

    def endpoint(self, number: int, *, up: bool) -> None:
        """Close the API's port of one node, or open the same one again."""
        self._do("endpoint", number=number, up=up)

    def certificate(self, which: str) -> dict[str, str]:
        """Serve the "first" or the "second" on new connections. Returns its cafile and fingerprint."""
        served: dict[str, str] = self._do("certificate", which=which)
        return served

    def storage(self, name: str, *, remove: bool = False, **options: Any) -> None:
        """Add, change or remove one: type, content, shared, active (0: offline), avail and total (bytes) …"""
        self._do("storage", name=name, remove=remove, **options)

    def settings(self, **settings: Any) -> None:
        """Of the whole cluster: time_scale, lag, clones_per_storage, storage_lock_wait, lock_wait, console_window and console_seconds
        (both real seconds), ticket_ttl, durations (by type of task), version, release_version, tokens_may_use_terminals …"""
        self._do("settings", **settings)

    def tell_statistics(self) -> None:
        """What the nodes would tell each other within 10 s, now."""
        self._do("tell_statistics")

    # -- looking -----------------------------------------------------------------------------------

    def calls(self) -> dict[str, int]:
        """{"GET /cluster/resources": how often} since the start or `reset_calls`."""
        found: dict[str, int] = self._do("calls")
        return found

    def most_at_once(self) -> int:
        return int(self._do("most_at_once"))

    def reset_calls(self) -> None:
        self._do("reset_calls")

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._do("tasks")
        return found

    def kill_task(self, upid: str) -> None:
        self._do("kill_task", upid=upid)

    def forget_tasks(self) -> None:
        self._do("forget_tasks")

    def consoles(self) -> list[dict[str, Any]]:
        """Those asked for and not closed yet."""
        found: list[dict[str, Any]] = self._do("consoles")
        return found

    def console(self, vmid: int) -> dict[str, Any]:
        """What was typed: keys (keysyms), clicks, viewers; text, size and keep_alives of the terminal."""
        found: dict[str, Any] = self._do("console", vmid=vmid)
        return found
