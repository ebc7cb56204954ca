"""The API spoken plainly, as tests need it to look at the fake or behind the provider."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import requests

from .running import RunningCluster

DEADLINE_SECONDS = 20


class Api:
    """One session with one account; a portal's token unless told otherwise."""

    def __init__(self, cluster: RunningCluster, headers: Mapping[str, str] | None = None, endpoint: int = 0) -> None:
        self.base = f"https://{cluster.endpoints[endpoint]}/api2/json"
        self.session = requests.Session()
        self.session.trust_env = False  # or REQUESTS_CA_BUNDLE would win over what follows
        self.session.verify = cluster.cafile
        self.session.headers.update(cluster.authorization if headers is None else headers)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def sign_in(self, user: str, password: str) -> str:
        """By password. Returns the ticket."""
        answer = self.data("POST", "/access/ticket", username=user, password=password)
        self.session.headers["CSRFPreventionToken"] = answer["CSRFPreventionToken"]
        self.session.cookies["PVEAuthCookie"] = quote(answer["ticket"], safe="")
        return str(answer["ticket"])

    def call(self, method: str, path: str, *, timeout: float = DEADLINE_SECONDS, **values: Any) -> requests.Response:
        """Values go into the query or the form; the names' underscores become hyphens."""
        given = {name.replace("_", "-"): value for name, value in values.items()}
        where = "params" if method in ("GET", "DELETE") else "data"
        return self.session.request(method, self.base + path, timeout=timeout, **{where: given})  # type: ignore[arg-type]

    def get(self, path: str, **values: Any) -> Any:
        return self.data("GET", path, **values)

    def data(self, method: str, path: str, **values: Any) -> Any:
        answer = self.call(method, path, **values)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.reason} {answer.text}"
        return answer.json()["data"]

    def refusal(self, method: str, path: str, **values: Any) -> str:
        """'500 VM 100 is not running'"""
        answer = self.call(method, path, **values)
        assert answer.status_code >= 400, f"{method} {path} was not refused"
        return f"{answer.status_code} {answer.reason}"

    def status(self, upid: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/nodes/{upid.split(':')[1]}/tasks/{quote(upid)}/status")
        return found

    def exit_status(self, upid: str) -> str:
        """Of a task, once it ended."""
        return str(until(lambda: self.status(upid).get("exitstatus")))

    def run(self, method: str, path: str, **values: Any) -> str:
        return self.exit_status(self.data(method, path, **values))

    def resource(self, vmid: int) -> dict[str, Any] | None:
        return next((line for line in self.get("/cluster/resources", type="vm") if line["vmid"] == vmid), None)

    def clone(self, vmid: int, template: int = 9000, kind: str = "qemu", **values: Any) -> str:
        """The exit status of a clone into the portal's pool."""
        name = {"name" if kind == "qemu" else "hostname": f"clone-{vmid}"}
        return self.run("POST", f"/nodes/pve1/{kind}/{template}/clone", newid=vmid, pool="labs", **name, **values)


def until(met: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, "It did not happen in time"
        time.sleep(0.01)
    return found


def qemu(vmid: int, rest: str = "") -> str:
    return f"/nodes/pve1/qemu/{vmid}{rest}"
