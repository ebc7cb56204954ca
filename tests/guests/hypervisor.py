"""A private libvirt daemon with the golden image in its pool, as a context."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt

from machines.providers.libvirt_kvm import LibvirtProvider
from machines.providers.libvirt_kvm.daemon import Daemon, prepare
from machines.providers.types import ProviderSettings

ROOT = Path(__file__).resolve().parent.parent.parent
PORTAL = "7e57ab1e-0000-4000-8000-000000000000"
TEMPLATE = "template-golden.qcow2"


def golden_image() -> Path:
    """Built once, kept in .cache."""
    image = ROOT / ".cache/golden/golden.qcow2"
    subprocess.run([sys.executable, ROOT / "deploy/golden/build.py", "--out", image, "--cache", image.parent], check=True)
    return image


@dataclass
class Hypervisor:
    daemon: Daemon
    process: "subprocess.Popen[bytes]"

    @property
    def config(self) -> dict[str, str]:
        """What Cluster.config holds."""
        return {"uri": self.daemon.uri, "pool": "labportal", "pool_path": str(self.daemon.pool_path), "network": "user"}

    def provider(self, **config: str) -> LibvirtProvider:
        return LibvirtProvider(ProviderSettings(cluster="test", portal=PORTAL, config=self.config | config))

    def connect(self) -> "libvirt.virConnect":
        """A connection of somebody else's, past the provider."""
        return libvirt.open(self.daemon.uri)

    def daemon_pid(self) -> int:
        """Of libvirtd itself, below its reaper."""
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd":
                return int(pid)
        raise ProcessLookupError("libvirtd")


@contextlib.contextmanager
def running_daemon() -> Iterator[Hypervisor]:
    """A daemon with nothing in it; ended with all its machines."""
    folder = Path(tempfile.mkdtemp(prefix="lp-"))
    folder.chmod(0o711)
    daemon = prepare(folder / "hv")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(daemon.argv, env=os.environ | daemon.env, stdout=log, stderr=log, start_new_session=True)
    try:
        daemon.wait_ready(60)
        yield Hypervisor(daemon, process)
    finally:
        with contextlib.suppress(Exception):
            daemon.stop_machines(grace=0)
        process.terminate()
        process.wait(20)
        daemon.release()
        shutil.rmtree(folder)


@contextlib.contextmanager
def running_hypervisor() -> Iterator[Hypervisor]:
    """With the golden image as a template."""
    with running_daemon() as hypervisor:
        provider = hypervisor.provider()
        provider.import_template(str(golden_image()), "golden")
        provider.close()
        yield hypervisor
