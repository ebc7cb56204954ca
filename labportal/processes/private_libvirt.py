"""Real machines on this computer, through a libvirt daemon of the portal's own."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from machines.models import Cluster, Template
from machines.models.cluster import Audience, ClusterKind
from machines.providers.errors import ProviderError
from machines.providers.libvirt_kvm import daemon, kvm
from machines.services.catalog import sync_templates
from machines.services.gateway import provider_for

from .child import Child
from .hypervisors import Hypervisor, environment, put_cluster
from .progress import Step, StepFailed

BUILD = settings.BASE_DIR / "deploy" / "golden" / "build.py"
CACHE = settings.BASE_DIR / ".cache" / "golden"
GOLDEN = "small-linux"  # the template's name on the cluster, with the image's version behind it
GOLDEN_MEMORY_MIB = 128


class PrivateLibvirt(Hypervisor):
    kind = ClusterKind.LIBVIRT
    cluster_name = "this computer"
    image_step = "Golden image"
    server_step = "Private libvirt daemon"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._image = data / "golden.qcow2"
        self._daemon: daemon.Daemon | None = None

    def prepare(self, step: Step) -> None:
        build = [sys.executable, BUILD, "--out", self._image, "--cache", CACHE]
        step.run(build, log=self.data / "log" / "up.log", failed="The golden image could not be built.")
        try:
            self._daemon = daemon.prepare(self.data / "libvirt")
        except daemon.DaemonError as error:
            raise StepFailed(str(error)) from error

    @property
    def daemon(self) -> daemon.Daemon:
        assert self._daemon is not None, "prepare comes first"
        return self._daemon

    def child(self) -> Child:
        # The daemon's account may not read our folder, but its log is opened by us. It sets modes itself.
        return Child("libvirt", self.daemon.argv, self.data / "log" / "libvirt.log", environment(self.data) | self.daemon.env, umask=0o022)

    def answers(self) -> bool:
        return self.daemon.answers()

    def cluster(self) -> Cluster:
        # Emulated guests that boot all at once are ready together, late; a few at a time, the first is ready soon.
        booting = 0 if kvm.usable()[0] else 2 * (os.cpu_count() or 1)
        config = {"uri": self.daemon.uri, "pool": "labportal", "pool_path": str(self.daemon.pool_path), "network": "user"}
        cluster = put_cluster(self.cluster_name, self.kind, config, limit_booting=booting, stop_deadline=30)
        try:
            self._offer_golden(cluster)
        except ProviderError as error:
            raise StepFailed(f"{error.message} ({error.detail})") from error
        return cluster

    def _offer_golden(self, cluster: Cluster) -> None:
        """Have this version of the golden image as a template. Machines of earlier ones keep theirs."""
        name = f"{GOLDEN}-{self._image.with_name(self._image.name + '.inputs').read_text()[:8]}"
        provider = provider_for(cluster)
        known = {template.ref for template in provider.templates()}
        ref = f"template-{name}.qcow2"
        if ref not in known:
            ref = provider.import_template(str(self._image), name).ref
        new = not cluster.templates.filter(ref=ref).exists()
        sync_templates(cluster, provider)
        if new:
            golden = {"name": "Small Linux", "description": "A small text-mode Linux; boots in seconds.", "memory_mib": GOLDEN_MEMORY_MIB}
            Template.objects.filter(cluster=cluster, ref__contains=GOLDEN).update(active=False)
            Template.objects.filter(cluster=cluster, ref=ref).update(active=True, audience=Audience.EVERYBODY, **golden)

    def stop_machines(self, hurry: Callable[[], bool]) -> None:
        with suppress(ProviderError):  # a daemon that is gone: see `clear`
            self.daemon.stop_machines(hurry=hurry)

    def clear(self) -> None:
        if self._daemon is None:
            return
        for entry in Path("/proc").iterdir():
            with suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                if entry.name.isdigit() and str(self._daemon.pool_path).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
        self._daemon.release()
