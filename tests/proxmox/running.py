"""Start the fake Proxmox VE cluster, talk to it, end it.

with running_cluster() as cluster:
    cluster.control.add_vm(123, "somebody-elses")
    provider = ProxmoxProvider(cluster.config(), cluster.token_secret)
"""

import json
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .control import Control

BASE = Path(__file__).resolve().parents[2]
START_SECONDS = 30
END_SECONDS = 10


@dataclass
class RunningCluster:
    url: str
    port: int
    endpoints: list[str]
    cafile: str
    fingerprint: str
    user: str
    password: str
    token_name: str
    token_secret: str
    pool: str
    control: Control

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"PVEAPIToken={self.user}!{self.token_name}={self.token_secret}"}

    def config(self, **more: Any) -> dict[str, Any]:
        """Cluster.config of this cluster; the secret is `token_secret`."""
        known = {"endpoints": self.endpoints, "user": self.user, "token_name": self.token_name, "tls": "ca", "ca": Path(self.cafile).read_text()}
        return known | {"fingerprints": [self.fingerprint], "vmids": [100000, 199999], "pool": self.pool} | more


@contextmanager
def running_cluster(*, time_scale: float = 0.02, endpoints: int = 2, empty: bool = False) -> Iterator[RunningCluster]:
    folder = tempfile.mkdtemp(prefix="pve-")  # short: the path of a Unix socket has 107 characters at most
    arguments = ["--dir", folder, "--time-scale", str(time_scale), "--endpoints", str(endpoints), *(["--empty"] if empty else [])]
    with (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.proxmox.fake", *arguments], cwd=BASE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            said = _first_line(process)
            assert said, f"The fake cluster did not start:\n{(Path(folder) / 'log').read_text()}"
            ready = json.loads(said)
            yield RunningCluster(**{**ready, "control": Control(ready["control"])})
        finally:
            _end(process)
            shutil.rmtree(folder)


def _first_line(process: "subprocess.Popen[str]") -> str:
    """Empty when it ended, or said nothing in time."""
    assert process.stdout
    deadline = time.monotonic() + START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if selector.select(deadline - time.monotonic()):
            return process.stdout.readline()
    return ""


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
