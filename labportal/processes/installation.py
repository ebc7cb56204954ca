"""The whole portal on one computer: hypervisor, web, worker and watcher under one supervisor."""

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.utils import timezone

from machines.models import Cluster

from .child import Child, kill_left_behind
from .hypervisors import Hypervisor, environment
from .life import Answers, heartbeat_silence
from .progress import Progress, StepFailed
from .supervisor import Supervisor

MANAGE = (sys.executable, str(settings.BASE_DIR / "manage.py"))
COMES_UP_WITHIN = 60.0  # seconds


def worker(env: Mapping[str, str], log: Path | None) -> Child:
    """The django-q2 cluster. It can stand still while its processes live; only the heartbeat, a task that goes
    through the queue, tells. It waits behind a long step only while all workers are at one."""
    return Child("worker", [*MANAGE, "qcluster"], log, env, silence=heartbeat_silence("worker"), patience=float(settings.WORKER_TIMEOUT_SECONDS))


class Installation:
    """Started and stopped by one thread."""

    def __init__(self, data: Path, host: str, port: int, hypervisor: Hypervisor, progress: Progress) -> None:
        self.data, self.host, self.port, self.hypervisor = data, host, port, hypervisor
        self.supervisor = Supervisor(lambda line: progress.say(f"{timezone.localtime():%H:%M:%S}  {line}"))
        self._progress = progress
        self.stopping = False
        self._hypervisor_up = False
        self._hurry = False

    @property
    def url(self) -> str:
        """Where it answers on this computer."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not listened on
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start_hypervisor(self) -> None:
        """Raises StepFailed."""
        with self._progress.step(self.hypervisor.image_step) as step:
            self.hypervisor.prepare(step)
        with self._progress.step(self.hypervisor.server_step) as step:
            child = self.hypervisor.child()
            self.supervisor.start(child)
            self._await(self.hypervisor.answers, child)
            self._hypervisor_up = True
            step.detail = "templates"
            self.hypervisor.cluster()

    def start_portal(self) -> None:
        """Raises StepFailed."""
        answers = Answers(f"{self.url}/health")
        began = timezone.now()
        log, env = self.data / "log", environment(self.data)
        serve = [*MANAGE, "web", "--host", self.host, "--port", str(self.port)]
        web = Child("web", serve, log / "web.log", env, silence=answers.silence, patience=30)
        watcher = Child("watcher", [*MANAGE, "watch"], log / "watcher.log", env, silence=heartbeat_silence("watcher"))
        with self._progress.step("Web, worker and watcher") as step:
            for child in (web, worker(env, log / "worker.log"), watcher):
                self.supervisor.start(child)
            step.detail = "web"
            self._await(answers, web)
            step.detail = "watcher"
            self._await(lambda: self._seen_since(began), watcher)

    def _await(self, ready: Callable[[], bool], child: Child) -> None:
        if not self.supervisor.watch(COMES_UP_WITHIN, until=ready):
            raise StepFailed(f"{child.name} did not come up within {COMES_UP_WITHIN:.0f} s. The end of its log ({child.log}):\n{child.last_lines}")

    def _seen_since(self, began: datetime) -> bool:
        try:
            return Cluster.objects.filter(name=self.hypervisor.cluster_name, reachable=True, seen_at__gte=began).exists()
        finally:
            connection.close()

    def hurry(self) -> None:
        """Kill instead of asking. May be called by a signal handler while `stop` is at work."""
        self._hurry = True
        self.supervisor.hurry()

    def stop(self) -> None:
        """End everything: the portal's processes, then the machines, then the hypervisor."""
        self.stopping = True
        with self._progress.step("Stopping web, worker and watcher"):
            self.supervisor.stop("web", "worker", "watcher")
        if self._hypervisor_up:
            with self._progress.step("Switching the machines off"):
                self.hypervisor.stop_machines(hurry=lambda: self._hurry)
        with self._progress.step("Stopping the hypervisor"):
            self.supervisor.stop()
            kill_left_behind(self.data)
            self.hypervisor.clear()
